"""Events are chained, those of before too, and the database refuses to change or remove one."""

from django.db import migrations, models

from app.audit import chain, triggers
from app.audit.seal import seal

MANY = 5000
COLUMNS = ("id", "at", "user", "user__username", "action", "kind", "subject", "details")


def chain_up(apps, schema_editor):
    """Number and digest what is there, in the order in which it was written."""
    using = schema_editor.connection.alias
    events = apps.get_model("clinic", "AuditEvent").objects.using(using)
    head = apps.get_model("clinic", "AuditHead")(pk=1)
    last = 0
    while chunk := list(events.filter(pk__gt=last).order_by("pk").values(*COLUMNS)[:MANY]):
        last = chunk[-1]["id"]
        rows = [chained(values, head) for values in chunk]
        with schema_editor.connection.cursor() as cursor:
            cursor.executemany(
                f"UPDATE {triggers.TABLE} SET sequence=%s, username=%s, digest=%s WHERE id=%s", rows
            )
    head.seal = seal(head.count, head.digest, head.doubted) if head.count else ""
    head.save(using=using)


def chained(values, head):
    values["username"] = values.pop("user__username") or ""
    head.count = values["sequence"] = head.count + 1
    head.digest = chain.digest(head.digest, chain.event(values))
    return head.count, values["username"], head.digest, values["id"]


def put_up(apps, schema_editor):
    triggers.put_up(schema_editor.connection)


def take_down(apps, schema_editor):
    triggers.take_down(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [("clinic", "0007_peers_deliveries_tokens")]

    operations = [
        migrations.CreateModel(
            name="AuditHead",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("count", models.PositiveBigIntegerField(default=0)),
                ("digest", models.CharField(default=chain.START, max_length=64)),
                ("doubted", models.PositiveBigIntegerField(default=0)),
                ("seal", models.CharField(blank=True, default="", max_length=64)),
            ],
        ),
        migrations.AddField(
            model_name="auditevent",
            name="sequence",
            field=models.PositiveBigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="auditevent",
            name="digest",
            field=models.CharField(editable=False, max_length=64, null=True),
        ),
        migrations.AddField(
            model_name="auditevent",
            name="username",
            field=models.CharField(blank=True, default="", editable=False, max_length=64),
        ),
        migrations.RunPython(chain_up, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="auditevent",
            name="sequence",
            field=models.PositiveBigIntegerField(editable=False, unique=True),
        ),
        migrations.AlterField(
            model_name="auditevent",
            name="digest",
            field=models.CharField(editable=False, max_length=64),
        ),
        migrations.RunPython(put_up, take_down),
    ]
