// Package introspect reads the tables of a live Postgres database, with their
// primary and foreign keys, and writes a starter config from them.
//
// A table t with the primary key id gets the tokens t, for every change of the
// table, and t:{id}, for a change of the row. A foreign key adds the token of
// the row that it points to: a change of a rental outdates the customer's page
// as well, the one that it belonged to before and the one that it belongs to
// now. Tokens have the name of the table as it is, in neither singular nor
// plural; with its schema where two schemas have tables of that name.
package introspect
