"""``python -m reservation_service``."""

from reservation_service.app import main

main()
