from unittest import mock

from django.core.cache import cache
from django.template import Context, Template, TemplateSyntaxError
from django.test import SimpleTestCase
from django_redis import get_redis_connection
from redis.exceptions import ConnectionError

from icache import icache


class ICacheTest(SimpleTestCase):
    tokens = ["t:a", "t:b", "movies", "1", "2", "token 1", "t:named"]

    def setUp(self):
        cache.delete_many(self.tokens)
        self.addCleanup(cache.delete_many, self.tokens)
        self.addCleanup(cache.delete_pattern, "fragment:*")

    def render(self, source, **variables):
        return Template("{% load icache %}" + source).render(Context(variables)).strip()


class TokensTest(ICacheTest):
    def test_readers_create_tokens(self):
        version = icache.get_sum(["t:a", "t:b"])
        self.assertGreater(version, 2 * 10**15)
        self.assertEqual(icache.get_sum(["t:a", "t:b", "t:a"]), version)
        self.assertEqual(cache.get("t:a") + cache.get("t:b"), version, "plain decimals, as django-redis has them")

    def test_incr(self):
        version = icache.get_sum(["t:a", "t:b"])
        icache.incr("t:a")
        again = icache.get_sum(["t:a", "t:b"])
        self.assertGreater(again, version)
        icache.incr_many(["t:a", "t:b"])
        self.assertGreater(icache.get_sum(["t:a", "t:b"]), again)
        icache.incr_many([])

    def test_lost_tokens_never_repeat(self):
        seen = set()
        for _ in range(200):
            seen.add(icache.get_sum(["t:a"]))
            cache.delete("t:a")
            icache.incr("t:a")
            seen.add(icache.get_sum(["t:a"]))
            cache.delete("t:a")
        self.assertEqual(len(seen), 400)

    def test_increments_of_others(self):
        icache.get_sum(["t:a"])
        for value in [2**53 - 1, 2**53 + 1, 2**62]:
            cache.set("t:a", value)
            icache.incr("t:a")
            self.assertEqual(icache.get_sum(["t:a"]), value + 1)
        cache.set("t:a", 41)
        icache.incr("t:a")
        self.assertGreater(icache.get_sum(["t:a"]), 10**15)
        self.assertGreater(cache.incr("t:a"), 10**15, "plain INCR works on it")

    def test_versioned(self):
        version = icache.get_sum(["t:a"])
        self.assertIsNone(icache.get_versioned("fragment:x", version))
        icache.set_versioned("fragment:x", "<p>", version)
        self.assertEqual(icache.get_versioned("fragment:x", version), "<p>")
        self.assertIsNone(icache.get_versioned("fragment:x", version + 1))
        self.assertIsNone(icache.get_versioned("fragment:x", version), "a mismatch deletes the entry")


class TagTest(ICacheTest):
    def test_usage_of_the_original(self):
        source = """
    {% icache token_1 token_2 token_3 token_n %}
        .. some expensive processing .. {{ n }}
    {% endicache %}
"""
        tokens = {"token_1": "token 1", "token_2": "t:a", "token_3": 2, "token_n": "t:b"}
        self.assertIn("processing .. 1", self.render(source, n=1, **tokens))
        self.assertIn("processing .. 1", self.render(source, n=2, **tokens))
        icache.incr("t:b")
        self.assertIn("processing .. 3", self.render(source, n=3, **tokens))

    def test_example_of_the_original(self):
        source = """
    {% icache 'movies-personal-rating' 'movies' user.id %}
        ... list of ordered by personal rating movies ... {{ movies|join:", " }}
    {% endicache %}
"""
        one, two = {"id": 1}, {"id": 2}
        self.assertIn("Ran, &lt;M&gt;", self.render(source, user=one, movies=["Ran", "<M>"]))
        self.assertIn("Stalker", self.render(source, user=two, movies=["Stalker"]))
        self.assertIn("Ran, &lt;M&gt;", self.render(source, user=one, movies=[]))
        icache.incr(1)
        self.assertIn("Mirror", self.render(source, user=one, movies=["Mirror"]))
        self.assertIn("Stalker", self.render(source, user=two, movies=[]))
        icache.incr("movies")
        self.assertIn("Solaris", self.render(source, user=two, movies=["Solaris"]))

    def test_what_tells_entries_apart(self):
        self.assertEqual(self.render("{% icache 't:named' vary lang %}{{ lang }}{% endicache %}", lang="en"), "en")
        self.assertEqual(self.render("{% icache 't:named' vary lang %}{{ lang }}{% endicache %}", lang="de"), "de")
        self.assertEqual(self.render("{% icache 't:named' 't:a' %}a{{ s }}{% endicache %}", s="<"), "a&lt;")
        self.assertEqual(self.render("{% icache 't:named' 't:a' %}b{{ s }}{% endicache %}", s="<"), "b&lt;")
        off = "{% autoescape off %}{% icache 't:named' 't:a' %}a{{ s }}{% endicache %}{% endautoescape %}"
        self.assertEqual(self.render(off, s="<"), "a<")
        self.assertIsNone(cache.get("en"), "what follows vary is no token")

    def test_version_is_read_before_the_data(self):
        def change_while_rendering():
            icache.incr("t:a")
            return "old"

        source = "{% icache 't:named' 't:a' %}{{ data }}{% endicache %}"
        self.assertEqual(self.render(source, data=change_while_rendering), "old")
        self.assertEqual(self.render(source, data="new"), "new", "an increment while it renders outdates it")

    def test_failing_body_is_not_cached(self):
        source = "{% icache 't:named' %}{% for x in data %}{{ x }}{% endfor %}{% endicache %}"
        with self.assertRaises(ZeroDivisionError):
            self.render(source, data=(1 // n for n in [1, 0]))
        self.assertEqual(self.render(source, data=[7]), "7")

    def test_without_redis(self):
        source = "{% icache 't:named' %}{{ n }}{% endicache %}"
        with mock.patch("redis.client.Redis.execute_command", side_effect=ConnectionError("gone")):
            with self.assertLogs("icache", "WARNING"):
                self.assertEqual(self.render(source, n=1), "1")
        cache.set("t:named", "no token")
        with self.assertLogs("icache", "WARNING"):
            self.assertEqual(self.render(source, n=2), "2")
        icache.incr("t:named")
        self.assertEqual(self.render(source, n=3), "3")
        self.assertEqual(self.render(source, n=4), "3", "incrementing has repaired it")

    def test_mistakes(self):
        for source in ["{% icache %}{% endicache %}", "{% icache vary x %}{% endicache %}", "{% icache 'a' vary %}{% endicache %}"]:
            with self.assertRaises(TemplateSyntaxError):
                Template("{% load icache %}" + source)
        with self.assertRaisesMessage(ValueError, "user.id has no value"):
            self.render("{% icache 'a' user.id %}{% endicache %}", user={})

    def test_keys_are_those_that_the_agent_has(self):
        icache.get_sum(["t:a"])
        raw = get_redis_connection("default")
        self.assertIsNotNone(raw.get("%s:1:t:a" % cache.key_prefix))
