"""Parts of adversarial training: objectives, penalties, augmentation, packing."""
