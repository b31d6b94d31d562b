from django.db import migrations

MOVIES = [
    ("Seven Samurai", 1954), ("Stalker", 1979), ("Alien", 1979), ("Ran", 1985), ("Heat", 1995),
    ("Fargo", 1996), ("In the Mood for Love", 2000), ("Parasite", 2019),
]
VIEWERS = ["Ada", "Bruno", "Chen"]


def add(apps, schema_editor):
    movie, viewer, rating = (apps.get_model("movies", name) for name in ["Movie", "Viewer", "Rating"])
    movies = [movie.objects.create(title=title, year=year) for title, year in MOVIES]
    for i, name in enumerate(VIEWERS):
        who = viewer.objects.create(name=name)
        for j, what in enumerate(movies):
            if (i + j) % 4:
                rating.objects.create(viewer=who, movie=what, stars=1 + (3 * i + 2 * j) % 5)


class Migration(migrations.Migration):
    dependencies = [("movies", "0001_initial")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
