"""``python -m queue_service``."""

import sys

from queue_service.app import main

sys.exit(main())
