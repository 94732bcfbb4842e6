"""The catalog: which models are served, from which files, and which files could not be."""

from service.catalog.catalog import Catalog
from service.catalog.loader import Loader
from service.catalog.served import Deployment, Failure, ServedModel

__all__ = ["Catalog", "Deployment", "Failure", "Loader", "ServedModel"]
