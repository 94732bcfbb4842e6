"""Train generators and serve them: a seeded latent in, a sample out, the same bytes every time."""

from pathlib import Path

_FOLDER = Path(__file__).parent
if not (_FOLDER / "models").is_dir():  # a Bento keeps no links: its packages lie beside this folder
    __path__.append(str(_FOLDER.parent))
