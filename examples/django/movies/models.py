from django.db import models
from django.db.models import Avg


class Movie(models.Model):
    title = models.CharField(max_length=200)
    year = models.IntegerField()

    @classmethod
    def best(cls):
        return cls.objects.filter(rating__isnull=False).annotate(average=Avg("rating__stars")).order_by("-average", "title")[:10]


class Viewer(models.Model):
    name = models.CharField(max_length=100)

    @property
    def token(self):
        return "user:%d" % self.id


class Rating(models.Model):
    viewer = models.ForeignKey(Viewer, models.CASCADE)
    movie = models.ForeignKey(Movie, models.CASCADE)
    stars = models.IntegerField()

    class Meta:
        unique_together = [("viewer", "movie")]
