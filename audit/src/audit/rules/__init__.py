"""Every invariant, in the order of the design's list."""

from audit.rule import Rule
from audit.rules.effects import (
    AvailabilityAgrees,
    AvailabilityNeverAhead,
    NothingWaitsInAnOutbox,
    OnePaymentARequest,
    OneReservationARequest,
)
from audit.rules.money import (
    BalanceEqualsLedger,
    ClearingHoldsTheAuthorized,
    EveryDebitEnds,
    NoNegativeBalance,
    OneDebitOneRefund,
    RevenueIsTheSucceeded,
    TransfersBalance,
)
from audit.rules.order import AdmittedInOrder, AtMostMaxActiveInside, DecidedInBrokerOrder
from audit.rules.seats import (
    ConfirmedHasOnePayment,
    ConfirmedInTime,
    HoldsEndInTime,
    OneLiveReservationASeat,
    SeatsLeftIsCounted,
    SeatsMatchReservations,
    SucceededHasOneReservation,
)

ALL_RULES: tuple[Rule, ...] = (
    OneLiveReservationASeat(),
    SeatsMatchReservations(),
    SeatsLeftIsCounted(),
    ConfirmedHasOnePayment(),
    SucceededHasOneReservation(),
    BalanceEqualsLedger(),
    TransfersBalance(),
    NoNegativeBalance(),
    ClearingHoldsTheAuthorized(),
    RevenueIsTheSucceeded(),
    OneDebitOneRefund(),
    EveryDebitEnds(),
    HoldsEndInTime(),
    ConfirmedInTime(),
    DecidedInBrokerOrder(),
    AdmittedInOrder(),
    AtMostMaxActiveInside(),
    OneReservationARequest(),
    OnePaymentARequest(),
    NothingWaitsInAnOutbox(),
    AvailabilityNeverAhead(),
    AvailabilityAgrees(),
)
"""What ``make verify`` runs."""
