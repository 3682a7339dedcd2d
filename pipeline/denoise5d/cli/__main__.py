"""``python -m denoise5d.cli``."""

from denoise5d.cli import main

main()
