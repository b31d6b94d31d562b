/*
Package migrations installs the triggers that record changes, and the outbox
that they write to.

A [Migrator] compares a database with the rules of a [mapping.Mapper].
[Migrator.Plan] says what is to be done, [Migrator.Up] does it, [Migrator.Down]
removes everything, [Migrator.Status] tells drift apart: what is missing,
disabled, edited by hand, or made for other rules.
*/
package migrations
