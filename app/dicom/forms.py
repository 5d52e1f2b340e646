"""What administrators enter of the node and of its peers."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from app.dicom.callers import callers
from app.models import AuditEvent, Peer, Site, User
from app.models.audit import changes


class NodeForm(forms.ModelForm):
    """Whether this program takes part, and what it is called there."""

    class Meta:
        model = Site
        fields = ["dicom", "ae_title", "dicom_port"]
        help_texts = {
            "ae_title": _("What X-ray units call this program. Capitals and small letters count."),
            "dicom_port": _("11112 suits nearly everywhere."),
        }

    def keep(self, by: User) -> None:
        """Save, audited."""
        with transaction.atomic():
            site = Site.objects.select_for_update().get(pk=Site.THE_ONE)
            values = self.cleaned_data
            AuditEvent.record(by, "dicom_changed", changed=changes(site, values))
            for name, value in values.items():
                setattr(site, name, value)
            site.save(update_fields=list(values))


class PeerForm(forms.ModelForm):
    """A machine, and what it is there for."""

    class Meta:
        model = Peer
        fields = [
            "name",
            "ae_title",
            "host",
            "port",
            "sends_films",
            "gets_results",
            "gives_worklist",
        ]
        help_texts = {
            "name": _("As people here call it, such as X-ray room 1."),
            "ae_title": _("As the machine's own settings show it."),
            "host": _("In numbers, such as 192.168.1.20, or its name in the network."),
            "port": _("On which the machine itself listens. One that only sends needs none: 104."),
        }

    def clean_host(self) -> str:
        """An address has no spaces and no path."""
        host: str = self.cleaned_data["host"]
        if not all(c.isalnum() or c in ".-:_" for c in host):
            raise ValidationError(_("An address such as 192.168.1.20, without spaces."))
        return host

    def keep(self, by: User) -> Peer:
        """Save, audited."""
        before = Peer.objects.filter(pk=self.instance.pk).first()
        with transaction.atomic():
            peer: Peer = self.save()
            if before is None:
                AuditEvent.record(by, "peer_entered", peer, name=peer.name)
            else:
                values: dict[str, Any] = self.cleaned_data
                changed = changes(before, values)
                AuditEvent.record(by, "peer_changed", peer, name=peer.name, changed=changed)
        callers.forget(peer.ae_title)
        return peer


def remove(peer: Peer, by: User) -> None:
    """Forget a peer, and what was on its way to it; audited."""
    with transaction.atomic():
        AuditEvent.record(by, "peer_removed", peer, name=peer.name, ae_title=peer.ae_title)
        peer.delete()
