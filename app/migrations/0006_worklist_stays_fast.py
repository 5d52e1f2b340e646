"""One index holds what the worklist asks for, and films know with which others they wait."""

from django.db import migrations, models
from django.utils import timezone


def begin_batch(apps, schema_editor):
    waiting = apps.get_model("clinic", "Instance").objects.filter(
        state__in=["waiting", "analysing"]
    )
    waiting.update(batch_at=timezone.now())


class Migration(migrations.Migration):
    dependencies = [("clinic", "0005_one_row_a_form")]

    operations = [
        migrations.RemoveIndex(model_name="study", name="study_answer"),
        migrations.RemoveIndex(model_name="study", name="study_read"),
        migrations.AddIndex(
            model_name="study",
            index=models.Index(
                fields=[
                    "-created_at",
                    "-id",
                    "status",
                    "is_read",
                    "answer",
                    "patient",
                    "search_text",
                ],
                name="study_worklist",
            ),
        ),
        migrations.AddField(
            model_name="instance",
            name="batch_at",
            field=models.DateTimeField(blank=True, db_index=True, null=True),
        ),
        migrations.RunPython(begin_batch, migrations.RunPython.noop),
    ]
