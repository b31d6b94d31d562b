import itertools

from django.shortcuts import get_object_or_404, render
from django.utils.functional import SimpleLazyObject

from .models import Movie, Rating, Viewer

counter = itertools.count(1)


def rendered():
    """A number that a fragment shows: the same again if it comes from the cache."""
    return next(counter)


# Everything that a fragment shows is read inside its block, when the template
# comes to it: querysets and lazy objects wait until then. Data read before could
# be older than the version, and would be cached as if they were not.


def index(request):
    viewer = get_object_or_404(Viewer, pk=request.GET.get("user", 1))
    return render(request, "movies/index.html", {
        "user": viewer,
        "best": Movie.best,
        "mine": Rating.objects.filter(viewer=viewer).select_related("movie").order_by("-stars", "movie__title"),
        "viewers": Viewer.objects.order_by("name"),
        "rendered": rendered,
    })


def movie(request, pk):
    return render(request, "movies/movie.html", {
        "token": "movie:%d" % pk,
        "movie": SimpleLazyObject(lambda: get_object_or_404(Movie, pk=pk)),
        "ratings": Rating.objects.filter(movie=pk).select_related("viewer").order_by("viewer__name"),
        "rendered": rendered,
    })
