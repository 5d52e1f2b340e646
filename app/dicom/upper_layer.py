"""pynetdicom's upper layer within bounds: no peer decides how much memory or disk is taken.

pynetdicom believes a PDU's length (up to 4 GiB) and keeps whole messages in memory. Here a PDU has
a longest length, a message a largest size, and a film goes to a file as it comes in (PS3.8, 9.3).
"""

from __future__ import annotations

import errno
import logging
import shutil
import socketserver
import time
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from django.conf import settings
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID
from pynetdicom import _config
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dsutils import create_file_meta
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationServer, AssociationSocket, RequestHandler

from app import server, vault
from app.cxr.dicom_identity import is_uid
from app.vault import spool

if TYPE_CHECKING:
    from pynetdicom.association import Association

logger = logging.getLogger(__name__)

# Its handlers and messages write down what peers send, patients' names among it
_config.LOG_HANDLER_LEVEL = "none"
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)

#: What peers are asked to keep to (PS3.8, D.1): what DCMTK can send at most. Short PDUs are slow.
MAXIMUM_LENGTH = 131072
#: Of any PDU, with room for those who count differently, and for the longest request: 128
#: presentation contexts with 30 transfer syntaxes each.
LONGEST_PDU = 2 * MAXIMUM_LENGTH
#: Of a command set, and of a data set that is no film: ten thousand references to be committed.
LARGEST_COMMAND = 64 * 1024
LARGEST_DATA_SET = 2 * 1024**2
#: Nobody may send a request before the last is answered (PS3.7, D.3.3.3: the window is 1).
MOST_WAITING = 4
#: Seconds, where an association says nothing of its patience.
LONGEST_PATIENCE = 60.0
#: Of a film that comes in so much is kept in memory, the rest in a file.
IN_MEMORY = 4 * 1024**2


class ProtocolFault(Exception):
    """The peer does what the standard forbids; the association is aborted."""


class IncomingFilm:
    """A film as it comes in: a DICOM file (PS3.10) of the very bytes that were sent.

    ``fault``: why it is not kept, a code of ``app.intake``; its rest is read and thrown away, so
    that its sender can be told. pynetdicom takes it for the file of its own that it would make.
    """

    #: pynetdicom removes the file of this name; there is none.
    name = ""

    def __init__(self, sop_class: str, sop_instance: str, transfer_syntax: UID) -> None:
        self.transfer_syntax = transfer_syntax
        self.size = 0
        self.fault = "" if is_uid(sop_class) and is_uid(sop_instance) else "no_uid"
        self.file = _passing_file()
        #: Where the data set begins, behind the file meta information.
        self.data_set_at = 0
        if not self.fault:
            self._write_head(sop_class, sop_instance)

    def write(self, data: bytes) -> None:
        """Take the next fragment; raises ProtocolFault where there is no end to them."""
        self.size += len(data)
        if self.size > 2 * settings.MAX_FILM_BYTES:
            raise ProtocolFault("data set without end")
        if self.size > settings.MAX_FILM_BYTES:
            self._give_up("too_large")
        elif self.size > IN_MEMORY and self._is_disk_full(len(data)):
            self._give_up("disk_full")
        if not self.fault:
            self._write(data)

    def flush(self) -> None:
        """Nothing: what is kept for good is written by ``app.intake``."""

    def close(self) -> None:
        """Let the bytes go."""
        self.file.close()

    def _write_head(self, sop_class: str, sop_instance: str) -> None:
        meta = create_file_meta(
            sop_class_uid=UID(sop_class),
            sop_instance_uid=UID(sop_instance),
            transfer_syntax=self.transfer_syntax,
        )
        self.file.write(bytes(128) + b"DICM")
        write_file_meta_info(cast(Any, self.file), meta)
        self.data_set_at = self.file.tell()

    def _write(self, data: bytes) -> None:
        try:
            self.file.write(data)
        except OSError as error:
            full = error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
            self._give_up("disk_full" if full else "cannot_store")

    def _is_disk_full(self, more: int) -> bool:
        # Twice: it is copied from here to where it stays
        needed = settings.MIN_FREE_BYTES + self.size + more
        return shutil.disk_usage(settings.TEMPORARY_DIR).free < needed

    def _give_up(self, fault: str) -> None:
        self.fault = self.fault or fault
        self.file.seek(0)
        self.file.truncate()


def _passing_file() -> BinaryIO:
    if vault.is_on():
        return cast(BinaryIO, spool.temporary())
    folder = str(settings.TEMPORARY_DIR)
    return cast(BinaryIO, SpooledTemporaryFile(IN_MEMORY, dir=folder))  # see IncomingFilm.close


class Messages(DIMSEServiceProvider):
    """DIMSE messages of limited size, of which a film's data set goes into a file."""

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self._bytes = 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments one by one; what breaks the rules ends the association."""
        try:
            for context_id, fragment in primitive.presentation_data_value_list:
                self._take(context_id, fragment)
        except Exception as error:  # noqa: BLE001 - whatever a peer sends, this program goes on
            logger.warning("association of %s aborted: %s", remote(self.assoc), fault_of(error))
            self.message = None
            self.dul.event_queue.put("Evt19")

    def _take(self, context_id: int, fragment: bytes) -> None:
        if not fragment:
            raise ProtocolFault("empty fragment")
        if self.msg_queue.qsize() > MOST_WAITING:
            raise ProtocolFault("more requests than may wait")
        if self.message is None:
            self.message, self._bytes = DIMSEMessage(), 0
        self._count(self.message, fragment)
        one = P_DATA()
        # Its setter wants lists, its type tuples
        one._presentation_data_value_list = [(context_id, fragment)]
        super().receive_primitive(one)
        self._open_file(context_id)

    def _count(self, message: DIMSEMessage, fragment: bytes) -> None:
        if getattr(message, "_data_set_file", None) is not None and not fragment[0] & 1:
            return  # a film counts for itself
        self._bytes += len(fragment)
        if self._bytes > (LARGEST_COMMAND if fragment[0] & 1 else LARGEST_DATA_SET):
            raise ProtocolFault("message too large")

    def _open_file(self, context_id: int) -> None:
        message = self.message
        if not isinstance(message, C_STORE_RQ) or message._data_set_file is not None:
            return
        context = self.assoc._accepted_cx.get(context_id)
        if context is None:
            raise ProtocolFault("context that was not accepted")
        command = message.command_set
        film: Any = IncomingFilm(
            str(command.get("AffectedSOPClassUID", "")),
            str(command.get("AffectedSOPInstanceUID", "")),
            context.transfer_syntax[0],
        )
        # pynetdicom writes the fragments to ``write`` and calls ``file.flush``
        message._data_set_file = film


class UpperLayer(DULServiceProvider):
    """The state machine, whose faults end the association and nothing else."""

    def run_reactor(self) -> None:
        """Work until the association ends."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - whatever a peer sends, this program goes on
            logger.warning("association of %s ended: %s", remote(self.assoc), fault_of(error))
        finally:
            # Nothing comes any more: whoever waits for it would wait for the whole ACSE timeout
            self.to_user_queue.put(cast(Any, None))


class BoundedSocket(AssociationSocket):
    """A socket that reads no PDU of any length, and for no time at all.

    Who sends one byte of a PDU and no second would hold pynetdicom for ever: its timers are looked
    at by the thread that reads.
    """

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes, fewer where the connection ends; raises OSError."""
        connection = self.socket
        if nr_bytes > LONGEST_PDU or connection is None:
            logger.warning("association of %s: PDU of %d bytes", remote(self.assoc), nr_bytes)
            raise OSError(errno.EMSGSIZE, "PDU too long")
        read = bytearray(nr_bytes)
        view, at, end = memoryview(read), 0, time.monotonic() + self._patience
        while at < nr_bytes:
            connection.settimeout(max(end - time.monotonic(), 0.001))
            count = connection.recv_into(view[at:])
            if not count:
                return read[:at]
            at += count
        # What is sent may not wait for ever either
        connection.settimeout(self._patience)
        return read

    @property
    def _patience(self) -> float:
        """Seconds for a whole PDU to come in."""
        one = self.assoc
        seconds = one.network_timeout if one.is_established else one.acse_timeout
        return seconds or LONGEST_PATIENCE


class Acceptance(RequestHandler):
    """Makes an association of a connection, with the parts above."""

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dul = UpperLayer(association)
        association.dul.socket = BoundedSocket(association, client_socket=self.request)
        association.dimse = Messages(association)
        # Setting them tells the new upper layer
        association.acse_timeout = association.acse_timeout
        association.network_timeout = association.network_timeout
        return association


class Server(AssociationServer):
    """Listens until it is closed. ``most_connections`` in all, and of one address."""

    request_queue_size = 64
    most_connections = 32
    most_of_one_address = 8

    def server_bind(self) -> None:
        """Take the port as the pages do: on Windows nobody else may share it (PortTaken)."""
        cast(Any, self.socket).close()
        host, port = self.server_address[:2]
        self.socket = server.listen(host, port)
        self.server_address = self.socket.getsockname()

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Whether there is room for one more: each costs two threads and a few megabytes."""
        open_ones = self.active_associations
        there = sum(one.requestor.address == client_address[0] for one in open_ones)
        if len(open_ones) < self.most_connections and there < self.most_of_one_address:
            return True
        logger.warning("connection of %s refused: too many are open", client_address[0])
        return False

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """Log what pynetdicom would print."""
        logger.exception("connection of %s failed", client_address[0])

    def shutdown(self) -> None:
        """Stop listening."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()


def remote(association: Association) -> str:
    """Address of the other side, for the log."""
    try:
        return str(association.requestor.address)
    except Exception:  # noqa: BLE001 - a line of the log must not fail
        return "?"


def fault_of(error: Exception) -> str:
    """Kind of a fault, for the log: only our own words, a peer's may hold a patient's name."""
    return str(error) if isinstance(error, ProtocolFault) else type(error).__name__
