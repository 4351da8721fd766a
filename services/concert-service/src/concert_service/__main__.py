"""``python -m concert_service`` is the command ``concert-service``."""

from concert_service.app import main

if __name__ == "__main__":
    main()
