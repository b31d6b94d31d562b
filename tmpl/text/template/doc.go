// Package template is text/template with a cache in it:
//
//	{{icache "digest-mail" "movies" (printf "user:%d" .User.ID)}} … expensive … {{endicache}}
//
// It has the API of text/template, so moving over means importing this package
// instead and naming the cache:
//
//	mails := template.Must(template.ParseFS(files, "*.txt")).Cache(cache)
//	err := mails.ExecuteTemplateContext(ctx, w, "weekly.txt", user)
//
// The tag, its guarantees and what to take care of are those of
// [github.com/icache-go/icache-agent/tmpl/html/template], except for escaping, of which there is none here.
package template
