"""Readings and signs remember the form they were entered in: sent twice it is one row."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("clinic", "0004_patients_have_moved"),
    ]

    operations = [
        migrations.AddField(
            model_name="clinicalsigns",
            name="token",
            field=models.CharField(blank=True, default="", editable=False, max_length=36),
        ),
        migrations.AddField(
            model_name="reading",
            name="token",
            field=models.CharField(blank=True, default="", editable=False, max_length=36),
        ),
    ]
