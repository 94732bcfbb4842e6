"""The catalog: which models are served from which files, and which files failed."""

from latentd.service.catalog.catalog import Catalog
from latentd.service.catalog.loader import Loader
from latentd.service.catalog.names import ListedVersion, Names
from latentd.service.catalog.served import Deployment, LoadFailure, ServedModel

__all__ = ["Catalog", "Deployment", "ListedVersion", "LoadFailure", "Loader", "Names", "ServedModel"]
