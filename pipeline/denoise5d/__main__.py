"""``python -m denoise5d``."""

from denoise5d.cli import main

main()
