"""``python -m data_platform``."""

import sys

from data_platform.app import main

sys.exit(main())
