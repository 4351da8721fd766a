"""``python -m payment_service``."""

import sys

from payment_service.app import main

sys.exit(main())
