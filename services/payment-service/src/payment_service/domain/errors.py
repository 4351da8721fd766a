"""This service's refusals; the edges translate them."""


class PaymentServiceError(Exception):
    """Root of this service's own refusals."""


class BalanceLimitExceeded(PaymentServiceError):  # noqa: N818 - names the refusal
    """A charge would fill the wallet above `MAX_BALANCE`."""


class InsufficientBalance(PaymentServiceError):  # noqa: N818 - names the refusal
    """The wallet holds less than the payment's amount; nothing was moved."""


class HoldExpired(PaymentServiceError):  # noqa: N818 - names the refusal
    """The reservation can no longer be paid: its hold ran out or it was cancelled."""


class AlreadyPaid(PaymentServiceError):  # noqa: N818 - names the refusal
    """The reservation has a succeeded payment."""


class PaymentInProgress(PaymentServiceError):  # noqa: N818 - names the refusal
    """The reservation has an authorized payment whose outcome is still open."""


class ContradictoryOutcome(PaymentServiceError):  # noqa: N818 - names what was met
    """An outcome that cannot be true beside what was booked before; a person must look."""


class ReservationUnknown(PaymentServiceError):  # noqa: N818 - names the refusal
    """No such reservation of this fan was heard of (yet)."""


class PaymentUnknown(PaymentServiceError):  # noqa: N818 - names the refusal
    """This fan has no such payment."""
