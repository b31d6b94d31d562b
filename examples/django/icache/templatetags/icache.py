import hashlib
import json
import logging

from django import template
from django_redis.exceptions import ConnectionInterrupted
from redis.exceptions import RedisError

from icache import icache

register = template.Library()
log = logging.getLogger("icache")

# Without Redis, or with something in the place of a token that is none, the page
# is rendered as if there were no cache.
UNUSABLE = (ConnectionInterrupted, RedisError, ValueError)


@register.tag("icache")
def do_icache(parser, token):
    """Cache a part of a template until one of its tokens is incremented.

    {% load icache %}
    {% icache 'movies-personal-rating' 'movies' user.id %}
        ... list of movies ordered by personal rating ...
    {% endicache %}

    The first argument names the fragment; it and the others are its tokens. Each
    unique set of arguments is an entry of its own. Arguments after the word vary
    tell entries apart and are no tokens: {% icache 'top' 'movies' vary lang %}.
    """
    words = token.split_contents()[1:]
    vary = words.index("vary") if "vary" in words else len(words)
    if vary == 0 or words[-1] == "vary":
        raise template.TemplateSyntaxError("icache needs the name of the fragment: {% icache 'name' 'token' … vary … %}")
    args = [parser.compile_filter(word) for word in words if word != "vary"]
    before = list(parser.tokens)  # reversed: the next one is the last
    nodelist = parser.parse(("endicache",))
    body = before[len(parser.tokens):]
    parser.delete_first_token()
    # A deploy that changes the block must not serve what the old one rendered.
    source = hashlib.sha256(repr([(t.token_type, t.contents) for t in body]).encode()).hexdigest()
    return ICacheNode(nodelist, args, vary, source)


class ICacheNode(template.Node):
    def __init__(self, nodelist, args, vary, source):
        self.nodelist, self.args, self.vary, self.source = nodelist, args, vary, source

    def render(self, context):
        values = [self.value(arg, context) for arg in self.args]
        tokens = values[: self.vary]
        key = "fragment:" + hashlib.sha256(
            json.dumps([self.source, context.autoescape, tokens, values[self.vary:]]).encode()
        ).hexdigest()
        try:
            version = icache.get_sum(tokens)  # before the data that the block reads
            output = icache.get_versioned(key, version)
        except UNUSABLE:
            log.warning("%s is rendered without the cache", tokens[0], exc_info=True)
            return self.nodelist.render(context)
        if output is None:
            output = self.nodelist.render(context)
            try:
                icache.set_versioned(key, output, version)
            except UNUSABLE:
                log.warning("%s could not be stored", tokens[0], exc_info=True)
        return output

    def value(self, arg, context):
        value = arg.resolve(context)
        if value is None or value == "":
            raise ValueError("icache: argument %s has no value" % arg)
        return str(value)
