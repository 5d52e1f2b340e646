"""Storage commitment: a unit asks whether its films are kept here, and is told (PS3.4, J).

The question is written down before it is acknowledged, the answer given later: on the association
it came by where the peer waits there, else on one of our own, again and again until it is heard.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone
from pydicom.dataset import Dataset
from pynetdicom import build_context, build_role
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from app import films
from app.cxr.dicom_identity import is_uid
from app.dicom.association import NoAssociation, associated
from app.dicom.callers import peer_of
from app.dicom.node import SECONDS_TO_SEE, node
from app.models import Commitment, Instance, Peer
from app.worker import traceback_of

if TYPE_CHECKING:
    from pynetdicom.association import Association

logger = logging.getLogger(__name__)

#: Pauses before the next try; after the last, the question is given up. A day and a half in all.
PAUSES = tuple(timedelta(minutes=m) for m in (1, 5, 15, 60, 180, 480, 720, 720))
KEEP = timedelta(days=30)
#: What one question may ask for: a month of films.
MOST_REFERENCES = 10_000

REQUEST = 1  # PS3.4, J.3.2: action type
ALL_KEPT, SOME_NOT = 1, 2  # PS3.4, J.3.3: event types
# PS3.3, C.14.1.1: failure reasons
NO_SUCH_INSTANCE, OTHER_CLASS, CANNOT_BE_READ = 0x0112, 0x0119, 0x0110
# PS3.7, C: statuses
SUCCESS, FAILED, NO_SUCH_ACTION, INVALID_ARGUMENT, NOT_ALLOWED = 0, 0x0110, 0x0123, 0x0115, 0x0124

#: The associations that questions came by, while they are open.
_asked_on: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


class NotHeard(Exception):
    """The peer did not take the answer. ``code`` is stable."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def handle_action(event: Any) -> tuple[int, None]:
    """The status of an N-ACTION request, as pynetdicom hands it over."""
    requestor = event.assoc.requestor
    try:
        peer = peer_of(requestor.ae_title, requestor.address)
        if peer is None or not peer.sends_films:
            return NOT_ALLOWED, None
        if event.action_type != REQUEST:
            return NO_SUCH_ACTION, None
        transaction_uid, references = asked_for(event.action_information)
        question = ask(peer, transaction_uid, references)
    except ValueError:
        return INVALID_ARGUMENT, None
    except Exception as error:  # noqa: BLE001 - the peer must hear that it keeps its films
        logger.error("a storage commitment failed: %s", traceback_of(error))
        return FAILED, None
    _asked_on[question.pk] = event.assoc
    node.wake.set()
    return SUCCESS, None


def asked_for(information: Dataset) -> tuple[str, list[list[str]]]:
    """Transaction UID and pairs of SOP class and instance; raises ValueError."""
    try:
        transaction_uid = str(information.TransactionUID)
        pairs = [
            [str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)]
            for item in information.ReferencedSOPSequence
        ]
    except Exception as error:
        raise ValueError("not a question for storage commitment") from error
    uids = [transaction_uid, *(uid for pair in pairs for uid in pair)]
    if not pairs or len(pairs) > MOST_REFERENCES or not all(map(is_uid, uids)):
        raise ValueError("not a question for storage commitment")
    return transaction_uid, pairs


def ask(peer: Peer, transaction_uid: str, references: list[list[str]]) -> Commitment:
    """Write a question down, or the same one once more: it is answered anew."""
    due = timezone.now() + timedelta(seconds=SECONDS_TO_SEE)
    fresh = {
        "references": references,
        "state": Commitment.State.WAITING,
        "attempts": 0,
        "next_try_at": due,
        "problem": "",
    }
    question, _new = Commitment.objects.update_or_create(
        peer=peer, transaction_uid=transaction_uid, defaults=fresh
    )
    return question


def answer_due() -> None:
    """Answer the questions whose time has come."""
    due = Commitment.objects.filter(state=Commitment.State.WAITING, next_try_at__lte=timezone.now())
    for question in due.select_related("peer").order_by("next_try_at"):
        _answer(question)
    long_ago = timezone.now() - KEEP
    Commitment.objects.exclude(state=Commitment.State.WAITING).filter(
        created_at__lt=long_ago
    ).delete()


def report_of(question: Commitment) -> tuple[int, Dataset]:
    """Event type and information: which films are kept here, and why not the rest."""
    report = Dataset()
    report.TransactionUID = question.transaction_uid
    kept: list[Dataset] = []
    failed: list[Dataset] = []
    for sop_class, sop_instance, reason in _checked(question.references):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
        if reason:
            item.FailureReason = reason
        (failed if reason else kept).append(item)
    if kept:
        report.ReferencedSOPSequence = kept
    if failed:
        report.FailedSOPSequence = failed
    return (SOME_NOT if failed else ALL_KEPT), report


def _checked(references: list[list[str]]) -> Iterator[tuple[str, str, int]]:
    """Each reference with the reason why it is not kept, 0 where it is."""
    for sop_class, sop_instance in references:
        known = Instance.objects.filter(sop_instance_uid=sop_instance)
        kept = [instance for instance in known if films.is_kept(instance.sha256)]
        if any(instance.sop_class_uid == sop_class for instance in kept):
            yield sop_class, sop_instance, 0
        elif kept:
            yield sop_class, sop_instance, OTHER_CLASS
        else:
            yield sop_class, sop_instance, CANNOT_BE_READ if known else NO_SUCH_INSTANCE


def _answer(question: Commitment) -> None:
    """Try once; what is not heard is tried again after a pause."""
    problem = ""
    try:
        event_type, report = report_of(question)
        _tell(question, event_type, report)
    except (NotHeard, NoAssociation) as error:
        problem = error.code
    except Exception as error:  # noqa: BLE001 - one peer must not keep the others waiting
        logger.error("a storage commitment failed: %s", traceback_of(error))
        problem = "failed"
    _settle(question, problem)


def _settle(question: Commitment, problem: str) -> None:
    """Write down what came of the try, unless the question was asked anew meanwhile."""
    attempts = question.attempts + 1
    values: dict[str, Any] = {"attempts": attempts, "problem": problem}
    if not problem:
        values["state"] = Commitment.State.REPORTED
    elif attempts > len(PAUSES):
        values["state"] = Commitment.State.GIVEN_UP
        logger.warning("storage commitment %s given up: %s", question.pk, problem)
    else:
        values["next_try_at"] = timezone.now() + PAUSES[attempts - 1]
    with transaction.atomic():
        same = Commitment.objects.filter(pk=question.pk, next_try_at=question.next_try_at)
        same.update(**values)


def _tell(question: Commitment, event_type: int, report: Dataset) -> None:
    """Say it where the peer waits, else on an association of our own; raises what is in the way."""
    waiting: Association | None = _asked_on.pop(question.pk, None)
    if waiting is not None and waiting.is_established:
        try:
            _report(waiting, event_type, report)
            return
        except NotHeard:
            logger.info("storage commitment %s: the peer did not wait", question.pk)
    # We are the SCP here although we ask for the association (PS3.4, J.2.2; PS3.7, D.3.3.4)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    with associated(question.peer, [build_context(StorageCommitmentPushModel)], [role]) as ours:
        _report(ours, event_type, report)


def _report(association: Association, event_type: int, report: Dataset) -> None:
    try:
        status, _reply = association.send_n_event_report(
            report, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    except (RuntimeError, ValueError) as error:  # it was closed, or refuses this service
        raise NotHeard("aborted") from error
    if status.get("Status") != SUCCESS:
        raise NotHeard("aborted" if "Status" not in status else "failed")
