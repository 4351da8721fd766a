"""What the waiting room measures."""

from prometheus_client import Counter, Gauge

people_waiting = Gauge("queue_people_waiting", "People in line", ["concert_id"])
people_inside = Gauge("queue_people_inside", "Slots taken", ["concert_id"])
admissions_ended = Counter("queue_admissions_ended", "Admissions ended, by cause", ["cause"])
