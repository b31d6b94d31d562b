# Varnish in front of an app whose pages carry the header Xkey, which package
# httpcache writes with Config.Tags: []httpcache.TagStyle{httpcache.Varnish}.
# icache-agent purges them by these keys:
#
#   cdn:
#     - {type: varnish, url: "http://varnish:6081"}
#
# Needs Varnish 6 or newer with the module xkey (Debian: varnish-modules). Keep
# what is between the marks, and make the rest yours. For how long a page is kept
# the app says, with Cache-Control: s-maxage; pages that it could give no keys it
# marks with Surrogate-Control: no-store, which the built-in VCL heeds.

vcl 4.1;

import xkey;

backend default {
    .host = "127.0.0.1";
    .port = "8080";
}

# Who may purge: the machines that icache-agent runs on.
acl purgers {
    "localhost";
}

sub vcl_recv {
    # icache: begin
    if (req.method == "PURGE") {
        if (client.ip !~ purgers) {
            return (synth(403, "Not a purger"));
        }
        if (req.http.Xkey-Purge) {
            set req.http.Xkey-Purged = xkey.purge(req.http.Xkey-Purge);
        } else if (req.http.Xkey-Softpurge) {
            set req.http.Xkey-Purged = xkey.softpurge(req.http.Xkey-Softpurge);
        } else {
            return (synth(400, "No keys"));
        }
        return (synth(200, "Purged"));
    }
    unset req.http.Xkey-Purged;
    # icache: end
}

sub vcl_synth {
    # icache: begin
    if (req.method == "PURGE" && req.http.Xkey-Purged) {
        set resp.http.Xkey-Purged = req.http.Xkey-Purged;
        return (deliver);
    }
    # icache: end
}

sub vcl_deliver {
    # icache: begin
    # The keys are no business of browsers.
    unset resp.http.Xkey;
    # icache: end
}
