"""Django settings of the clinic program: everything local, nothing asked of any other machine."""

from __future__ import annotations

import secrets
from pathlib import Path

from app import __version__, options

VERSION = __version__
CODE_DIR = Path(__file__).resolve().parent

# --- Settings a clinic can change, each from the environment -------------------------------------

# CLINIC_HOME (or --data-dir): the folder that holds the database, the films, backups and logs.
DATA_DIR = options.data_directory()
# CLINIC_MAX_FILM_MB: the largest file taken in at the door, in MiB; a multi-frame DICOM is less.
MAX_FILM_BYTES = options.whole_number("CLINIC_MAX_FILM_MB", 512, 1, 4096) * 1024 * 1024
# CLINIC_MIN_FREE_MB: how much disk stays free whatever comes in; a laptop whose system disk is full
# no longer starts properly.
MIN_FREE_BYTES = options.whole_number("CLINIC_MIN_FREE_MB", 500, 0, 100_000) * 1024 * 1024
# CLINIC_LANGUAGE: the language of the pages where the browser asks for none that is known.
LANGUAGES = [
    ("en", "English"),
    ("fr", "Français"),
    ("pt", "Português"),
    ("es", "Español"),
    ("sw", "Kiswahili"),
    ("hi", "हिन्दी"),
    ("ar", "العربية"),
]
LANGUAGE_CODE = options.language("CLINIC_LANGUAGE", "en", tuple(dict(LANGUAGES)))
# CLINIC_TIME_ZONE: the clinic's time zone, such as Africa/Kampala; the computer's own otherwise.
TIME_ZONE = options.time_zone("CLINIC_TIME_ZONE", options.computer_time_zone())
# CLINIC_DATABASE_URL: a PostgreSQL database that several machines share (docs/scaling.md), such as
# postgresql://clinic:PASSWORD@server/clinic; else a file in the data directory.
DATABASE_SERVER = options.database_server("CLINIC_DATABASE_URL")
# CLINIC_FILM_STORAGE: where the films are when several machines share them: a folder's whole path,
# or s3://BUCKET/PREFIX, with boto3's own AWS_… variables for address and keys.
FILM_STORAGE = options.film_storage("CLINIC_FILM_STORAGE")
# CLINIC_TRUSTED_PROXY: the address of the web server that passes requests on to this one, over
# HTTPS on its outside. What it says of a visitor is believed, from nobody else.
TRUSTED_PROXY = options.address("CLINIC_TRUSTED_PROXY")
# CLINIC_HOST_NAMES: under which names that web server is visited.
HOST_NAMES = options.host_names("CLINIC_HOST_NAMES")
# A backup on a stick holds films and database of one machine together
options.need("CLINIC_FILM_STORAGE", "CLINIC_DATABASE_URL")
options.need("CLINIC_TRUSTED_PROXY", "CLINIC_HOST_NAMES")
options.need("CLINIC_PAGES_ONLY", "CLINIC_DATABASE_URL")
# CLINIC_PAGES_ONLY: of several that serve pages, all but one say yes: no films are analysed in this
# process, no folder is watched, no X-ray unit is listened to and no results are sent on.
PAGES_ONLY = options.yes_or_no("CLINIC_PAGES_ONLY", default=False)
# CLINIC_METRICS_TOKEN: who asks for /metrics from another machine says it (Authorization: Bearer).
METRICS_TOKEN = options.token("CLINIC_METRICS_TOKEN")
# CLINIC_DEBUG: error pages that show code. For developers only: they also show patient data.
DEBUG = options.yes_or_no("CLINIC_DEBUG", default=False)

# --- Where things are kept -----------------------------------------------------------------------

MEDIA_ROOT = DATA_DIR
MEDIA_URL = ""  # stored films are never served as they came in
#: A folder of films that several machines share; None: they are in the data directory.
FILM_FOLDER = FILM_STORAGE if isinstance(FILM_STORAGE, Path) else None
STORAGES = options.storages(FILM_STORAGE)
TEMPORARY_DIR = DATA_DIR / "tmp"
BACKUP_DIR = DATA_DIR / "backups"
LOG_DIR = DATA_DIR / "logs"
FILE_UPLOAD_TEMP_DIR = TEMPORARY_DIR  # a patient's film has no business in the system's /tmp
FILE_UPLOAD_HANDLERS = [
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "app.vault.uploads.PassingFileHandler",
]
FILE_UPLOAD_PERMISSIONS = 0o600
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o700

DATABASE_FILE = DATA_DIR / "clinic.sqlite3"
_FILE = {
    # Django's own for SQLite, unless the data are encrypted (app.vault)
    "ENGINE": "app.vault.engine",
    "NAME": DATABASE_FILE,
    "OPTIONS": {
        # synchronous=FULL: in WAL mode NORMAL may lose the last commits in a power cut
        # (sqlite.org/pragma.html#pragma_synchronous), and what was acknowledged must be there.
        "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;",
        # IMMEDIATE: a transaction that reads and then writes waits its turn at the beginning,
        # where it can, instead of failing with "database is locked" at its first write.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
    },
    # A connection for each thread, kept: opening one and its PRAGMAs cost more than a query
    "CONN_MAX_AGE": None,
}
DATABASES = {
    # A server may have been restarted since a kept connection was used last
    "default": {**DATABASE_SERVER, "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
    if DATABASE_SERVER
    else _FILE
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Django --------------------------------------------------------------------------------------


def _secret_key() -> str:
    """The key that start-up wrote into the data directory; a passing one where it never ran."""
    try:
        return (DATA_DIR / "secret.key").read_text(encoding="ascii").strip() or secrets.token_hex()
    except (OSError, UnicodeDecodeError):
        return secrets.token_hex()


SECRET_KEY = _secret_key()
# A page on another site must not reach us by a name that it lets point to 127.0.0.1.
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]", *HOST_NAMES]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_tasks",
    "django_tasks_db",
    "app.apps.ClinicConfig",
]
MIDDLEWARE = [
    "app.doors.DoorMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "app.language.LanguageMiddleware",  # before the next, whose refusals are read too
    "app.access.AccessMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "app.urls"
WSGI_APPLICATION = "app.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "app.access.for_templates",
                "app.language.for_templates",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": ["default"]}}

AUTH_USER_MODEL = "clinic.User"
LOGIN_URL = "log-in"
LOGIN_REDIRECT_URL = "worklist"
PASSWORD_HASHERS = ["app.passwords.Argon2"]
_PASSWORD_RULES = "django.contrib.auth.password_validation."
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": f"{_PASSWORD_RULES}UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ("username", "full_name")},
    },
    {"NAME": f"{_PASSWORD_RULES}MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": f"{_PASSWORD_RULES}CommonPasswordValidator"},
]
# A day's work (LogIn.LIFE); a laptop that is left open overnight asks again
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"  # a phone comes from the QR code of another screen
SESSION_EXPIRE_AT_BROWSER_CLOSE = True

LOCALE_PATHS = [CODE_DIR / "locale"]
FORMAT_MODULE_PATH = ["app.formats"]
LANGUAGE_COOKIE_NAME = "clinic_language"
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
# Served straight from the apps' own static folders: nothing to collect before the first start.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG
WHITENOISE_ALLOW_ALL_ORIGINS = False  # by itself it would invite pages of others to read them

# The headers of every answer are app.doors'
CSRF_COOKIE_SAMESITE = "Strict"
CSRF_COOKIE_HTTPONLY = True  # scripts read the token from the form
CSRF_FAILURE_VIEW = "app.views.errors.page_too_old"
# Behind a proxy all comes by HTTPS, and no cookie must leave otherwise
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = bool(TRUSTED_PROXY)
# Cookies know no ports: under Django's own names another program of this computer would share them
CSRF_COOKIE_NAME = "clinic_csrf"
SESSION_COOKIE_NAME = "clinic_session"

# Logging is set up by start-up (app.startup), once the data directory is known to be writable.
LOGGING_CONFIG = None
ADMINS: list[tuple[str, str]] = []
