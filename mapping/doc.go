/*
Package mapping turns changes of rows into tokens, by rules.

A [Rule] names a table and the token templates that a change of it outdates.
[Compile] checks rules and makes a [Mapper]; [Mapper.AppendTokens] turns what a
trigger recorded into tokens. The package does no I/O and knows no driver.

# Templates

A template is a literal text with placeholders in braces:

	movies                          a plain token: every change of the table bumps it
	movie:{id}                      the text form of a column
	{"Odd Name"}                    a column whose name needs quotes; "" is a quote inside
	tag:{tags[]}                    one token for every element of an array column
	lang:{doc->>'lang'}             a field of a json or jsonb column, as text
	{doc->'a'->0->>'b'}             deeper: keys in single quotes ('' is a quote inside) and indexes
	user:{email|hash}               a value kept private; see Hash
	genre:{movie_id->movies.genre_id}   the column genre_id of the row of movies that movie_id points to
	{movie_id->film.movies.genre_id}    the same with a schema; without one it is the schema of the rule's table
	{{ and }}                       literal braces

Blanks inside the braces do not count. Names are taken exactly as they are
written: an unquoted name is letters, digits, _ and $, and is not folded to
lower case. A template takes the elements of one array at most.

# Values

A value is what Postgres gives for the column cast to text, in the form that
the trigger pins (it does not depend on the writer's TimeZone or DateStyle). A
row that changed yields the tokens of its old and of its new form.

	NULL                            skips the token, and so does a NULL in an array
	an empty array                  yields no token
	a token that is empty           is skipped: no reader can name it
	a token over MaxTokenLen bytes  becomes its group token, or Generation without one
	an array over MaxKeys elements  counts as unknown

A placeholder |hash is computed in SQL, by the trigger: the value itself never
enters the outbox. Only {fk->table.column|hash} is computed by the mapper, after
the look-up. Either way it is [Hash], the first 32 hexadecimal digits of the
SHA-256 of the text in UTF-8, so that an application can name the token.

A value is not escaped. It may hold a colon, or be an asterisk: {kind} with the
value * is [Generation] and outdates everything. Begin a template with a literal
and a colon, as in kind:{kind}, if the values come from strangers.

# What is unknown

Bulk statements, TRUNCATE, and rules newer than the installed triggers leave
values unknown. Then more is outdated rather than less: plain tokens are bumped
as ever, and in place of every other template its group token, the text before
the first colon with ":*", if that text is literal (movie:* for movie:{id}),
else [Generation]. Readers depend on the group tokens of their tokens and on
the generation without asking. It is done for

  - all templates, if [Change].Keys is nil or JSON null;
  - the templates that name it, if a source is missing in a key, or is not of
    the form that the source has;
  - a template that follows a foreign key, if the key was not resolved.

Keys that are not well-formed are an error that wraps [ErrKeys]; apply such a
change again with Keys nil.

# Foreign keys

What a foreign key points to is read by the one who applies the changes, after
the commit, once for a batch: [Mapper.AppendLookups] collects what to look up,
[Mapper.AppendTokensWith] takes the answers. The value is the present one. If it
changes, that is a change of the other table, whose own rule should name it.
A row that is gone has no answer, and the group token is bumped.

# Guarantees

Every token that the old or the new form of a recorded row yields comes out,
possibly more than once; a token never goes missing because of something
unexpected in the keys. The order of columns and of keys does not matter.
A Mapper is immutable and safe for concurrent use. AppendTokens allocates once
for each key, whatever the number of its templates.
*/
package mapping
