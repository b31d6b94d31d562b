"""Settings of the example. Only DATABASES and CACHES have to do with icache."""

import os
from urllib.parse import parse_qsl, unquote, urlsplit

_db = urlsplit(os.environ["DATABASE_URL"])
_options = dict(parse_qsl(_db.query))

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(_db.path[1:]),
        "USER": unquote(_db.username or ""),
        "PASSWORD": unquote(_db.password or ""),
        "HOST": _options.pop("host", _db.hostname or ""),
        "PORT": _options.pop("port", _db.port or ""),
        "OPTIONS": _options,
    }
}

# Keys are "<KEY_PREFIX>:<VERSION>:<key>", so the agent has
# redis.token_key: "site:1:{token}". A timeout is not needed: what is outdated is
# not served, and Redis evicts what nobody asks for.
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ["REDIS_URL"],
        "KEY_PREFIX": os.environ.get("CACHE_PREFIX", "site"),
        "TIMEOUT": None,
    }
}

INSTALLED_APPS = ["icache", "movies"]
ROOT_URLCONF = "cinema.urls"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
SECRET_KEY = "of an example that signs nothing"
DEBUG = True
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
