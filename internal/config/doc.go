// Package config reads the configuration of icache-agent.
//
// Values come from four layers, each over the one before: defaults, the YAML
// file, environment variables (ICACHE_POSTGRES__URL; two underscores separate
// levels), flags (--postgres-url). A layer that sets a URL also displaces the
// url_file of the layers below it, and the other way round.
//
// The file is read strictly: an unknown or repeated key, a number without a
// unit for a duration, a value of the wrong type or a bad template is an error
// with file, line and column. All mistakes are reported, not just the first;
// see [Error]. Unknown ICACHE_* variables are only warned about: Kubernetes
// sets some for every Service that is named icache.
//
// A running agent takes up new tables, by a SIGHUP or when the file changes
// ([Watch]); for other settings it has to be started again ([NeedRestart]).
//
// An item of the tables may mean many, with wildcards ([Pattern]); which ones
// takes a connection to the database to know.
//
// URLs are secrets: they print, log and marshal without passwords; see [URL].
package config
