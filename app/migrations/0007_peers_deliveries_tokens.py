"""Machines of the hospital, what goes out to them, and what the header of a film says it belongs to."""

import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("clinic", "0006_worklist_stays_fast"),
    ]

    operations = [
        migrations.CreateModel(
            name="Peer",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=100, unique=True, verbose_name="name")),
                (
                    "ae_title",
                    models.CharField(
                        max_length=16,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[!-\\[\\]-~]{1,16}\\Z",
                                "1 to 16 letters, digits or signs, without spaces.",
                            )
                        ],
                        verbose_name="AE title",
                    ),
                ),
                ("host", models.CharField(max_length=200, verbose_name="address")),
                (
                    "port",
                    models.PositiveIntegerField(
                        default=104,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(65535),
                        ],
                        verbose_name="port",
                    ),
                ),
                (
                    "sends_films",
                    models.BooleanField(default=False, verbose_name="sends films here"),
                ),
                (
                    "gets_results",
                    models.BooleanField(default=False, verbose_name="gets the results"),
                ),
                (
                    "gives_worklist",
                    models.BooleanField(
                        default=False, verbose_name="tells who is waiting for a film"
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.AddField(
            model_name="instance",
            name="sender",
            field=models.CharField(blank=True, default="", max_length=100),
        ),
        migrations.AddField(
            model_name="instance",
            name="series_uid",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AddField(
            model_name="instance",
            name="sop_class_uid",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AddField(
            model_name="site",
            name="ae_title",
            field=models.CharField(
                default="CLINIC",
                max_length=16,
                validators=[
                    django.core.validators.RegexValidator(
                        "^[!-\\[\\]-~]{1,16}\\Z",
                        "1 to 16 letters, digits or signs, without spaces.",
                    )
                ],
                verbose_name="AE title of this program",
            ),
        ),
        migrations.AddField(
            model_name="site",
            name="dicom",
            field=models.BooleanField(
                default=False, verbose_name="X-ray units and archives may send films"
            ),
        ),
        migrations.AddField(
            model_name="site",
            name="dicom_port",
            field=models.PositiveIntegerField(
                default=11112,
                validators=[
                    django.core.validators.MinValueValidator(1),
                    django.core.validators.MaxValueValidator(65535),
                ],
                verbose_name="port",
            ),
        ),
        migrations.AddField(
            model_name="site",
            name="fhir_authorization",
            field=models.CharField(
                blank=True,
                default="",
                max_length=500,
                verbose_name="authorization of the FHIR server",
            ),
        ),
        migrations.AddField(
            model_name="site",
            name="fhir_server",
            field=models.CharField(
                blank=True, default="", max_length=500, verbose_name="FHIR server"
            ),
        ),
        migrations.AddField(
            model_name="site",
            name="sends_results",
            field=models.CharField(
                choices=[
                    ("asked", "when somebody asks for it"),
                    ("reading", "when somebody has read the film"),
                    ("answer", "when the computer has answered"),
                ],
                default="asked",
                max_length=10,
                verbose_name="results are sent",
            ),
        ),
        migrations.AddField(
            model_name="site",
            name="watched_folder",
            field=models.CharField(
                blank=True, default="", max_length=500, verbose_name="watched folder"
            ),
        ),
        migrations.AddField(
            model_name="study",
            name="accession_number",
            field=models.CharField(blank=True, db_index=True, default="", max_length=16),
        ),
        migrations.AddField(
            model_name="study",
            name="study_uid",
            field=models.CharField(blank=True, db_index=True, default="", max_length=64),
        ),
        migrations.AlterField(
            model_name="instance",
            name="source",
            field=models.CharField(
                choices=[
                    ("upload", "Upload"),
                    ("folder", "Folder"),
                    ("dicom", "Dicom"),
                    ("command", "Command"),
                    ("disc", "Disc"),
                    ("api", "Api"),
                ],
                max_length=10,
            ),
        ),
        migrations.CreateModel(
            name="DeviceToken",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=100, verbose_name="name")),
                ("digest", models.CharField(max_length=64, unique=True)),
                ("shown", models.CharField(max_length=20)),
                ("scopes", models.JSONField(default=list)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("last_used_at", models.DateTimeField(null=True)),
                ("revoked_at", models.DateTimeField(null=True)),
                (
                    "made_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["-created_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(choices=[("dicom", "Dicom"), ("fhir", "Fhir")], max_length=10),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("sending", "Sending"),
                            ("sent", "Sent"),
                            ("given_up", "Given Up"),
                        ],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("next_try_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("problem", models.CharField(blank=True, default="", max_length=40)),
                ("details", models.JSONField(default=dict)),
                ("worker", models.CharField(blank=True, default="", max_length=64)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("sent_at", models.DateTimeField(null=True)),
                (
                    "study",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="clinic.study",
                    ),
                ),
                (
                    "peer",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="clinic.peer",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "deliveries",
                "ordering": ["-created_at", "-id"],
                "indexes": [models.Index(fields=["state", "next_try_at"], name="delivery_due")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("peer__isnull", False), ("state", "waiting")),
                        fields=("study", "peer", "kind"),
                        name="waits_once_for_each_peer",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("peer__isnull", True), ("state", "waiting")),
                        fields=("study", "kind"),
                        name="waits_once_for_the_server",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Commitment",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("transaction_uid", models.CharField(max_length=64)),
                ("references", models.JSONField(default=list)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("reported", "Reported"),
                            ("given_up", "Given Up"),
                        ],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("next_try_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("problem", models.CharField(blank=True, default="", max_length=40)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "peer",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="commitments",
                        to="clinic.peer",
                    ),
                ),
            ],
            options={
                "ordering": ["-created_at", "-id"],
                "indexes": [models.Index(fields=["state", "next_try_at"], name="commitment_due")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("peer", "transaction_uid"), name="one_question_a_transaction"
                    )
                ],
            },
        ),
    ]
