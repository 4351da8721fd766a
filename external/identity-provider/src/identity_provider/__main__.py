"""``python -m identity_provider``."""

import sys

from identity_provider.app import main

sys.exit(main())
