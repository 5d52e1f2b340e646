"""What the clinic keeps. Verbs live here: pages and the worker call them, and add nothing."""

from app.models.audit import AuditEvent, AuditHead
from app.models.batch import Batch
from app.models.deliveries import Commitment, Delivery
from app.models.log_ins import LogIn, TooManyTries, Tries
from app.models.operating_points import LocalOperatingPoint
from app.models.patients import Patient
from app.models.peers import Peer
from app.models.people import Invitation, Role, User
from app.models.readings import ClinicalSigns, Reading
from app.models.recovery import RecoveryCode
from app.models.site import SendsResults, Site
from app.models.studies import UNFINISHED, Finding, Instance, State, Study
from app.models.tokens import DeviceToken, Scope
from app.models.work import Worker

__all__ = [
    "UNFINISHED",
    "AuditEvent",
    "AuditHead",
    "Batch",
    "ClinicalSigns",
    "Commitment",
    "Delivery",
    "DeviceToken",
    "Finding",
    "Instance",
    "Invitation",
    "LocalOperatingPoint",
    "LogIn",
    "Patient",
    "Peer",
    "Reading",
    "RecoveryCode",
    "Role",
    "Scope",
    "SendsResults",
    "Site",
    "State",
    "Study",
    "TooManyTries",
    "Tries",
    "User",
    "Worker",
]
