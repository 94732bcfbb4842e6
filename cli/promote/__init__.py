"""`latentd promote`, `latentd rollback` and `latentd promotions`: which version a model's name means."""
