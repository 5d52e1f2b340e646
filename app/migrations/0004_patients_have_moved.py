from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("clinic", "0003_move_patients_and_standing")]

    operations = [
        migrations.RemoveField(
            model_name="study",
            name="patient_name",
        ),
        migrations.RemoveField(
            model_name="study",
            name="patient_number",
        ),
        migrations.RemoveField(
            model_name="study",
            name="patient_sex",
        ),
    ]
