"""AE titles may have spaces inside, as the standard lets them (PS3.5, 6.2)."""

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("clinic", "0010_log_ins_recovery_codes"),
    ]

    operations = [
        migrations.AlterField(
            model_name="peer",
            name="ae_title",
            field=models.CharField(
                max_length=16,
                validators=[
                    django.core.validators.RegexValidator(
                        "^(?! )[ -\\[\\]-~]{1,16}(?<! )\\Z",
                        "1 to 16 letters, digits or signs, no backslash among them.",
                    )
                ],
                verbose_name="AE title",
            ),
        ),
        migrations.AlterField(
            model_name="site",
            name="ae_title",
            field=models.CharField(
                default="CLINIC",
                max_length=16,
                validators=[
                    django.core.validators.RegexValidator(
                        "^(?! )[ -\\[\\]-~]{1,16}(?<! )\\Z",
                        "1 to 16 letters, digits or signs, no backslash among them.",
                    )
                ],
                verbose_name="AE title of this program",
            ),
        ),
    ]
