/*
Package migrations installs the triggers that record changes, and the outbox
that they write to.

A [Migrator] compares a database with the rules of a [mapping.Mapper].
[Migrator.Plan] says what is to be done, [Migrator.Up] does it, [Migrator.Down]
removes everything, [Migrator.Status] tells drift apart, and [Migrator.Export]
writes the same SQL for other migration tools. Postgres 15 to 18 are supported.

# What is recorded

A statement that changes a mapped table writes one row to the outbox, in its own
transaction: the table, the operation, and the distinct keys of the rows that it
changed, old and new. Keys are what the templates of the rule name, in text
form, whatever the settings of the session. They are NULL, which stands for
everything of the table, when

  - the statement has more than max_keys distinct keys; if the primary key is
    among the keys, also when it touched more rows and not all of them changed;
  - the statement is TRUNCATE;
  - the table is not what it was when the triggers were made.

Nothing is recorded for rows in which nothing changed that counts: the columns
of the rule, or all columns if it names none, among them columns that are added
later. Values are compared by their bytes, so that 1.0 and 1.00 differ, as they
do in a page.

# Which triggers

An ordinary table has a statement-level trigger with transition tables for each
operation. A table that others inherit from shares them with its children. A
partitioned table has a row-level trigger, which Postgres copies to every
partition, present and future, and which sees what is written to a partition
directly. It writes a row of the outbox for each row that changed, until there
are max_keys of them from one transaction; then one with unknown keys, and
nothing more. So does the trigger of a rule with always, since statement-level
triggers do not fire for logical replication. TRUNCATE has triggers on the table and on every
partition and child that exists when the migration runs; Status reports those
that were added since.

No trigger on a table sees ATTACH and DETACH PARTITION, DROP TABLE or rewrites
by ALTER TABLE. Event triggers do, which [Config.EventTrigger] asks for: they
record that everything of the table changed, and never fail the command. What is
loaded under session_replication_role = replica into tables without always is
seen by neither.

# Guarantees

A statement of the application never fails because of a rule: what finds the
keys runs in a block that turns any error into unknown keys, and that writes
nothing, so it takes no transaction id. It does fail if the outbox cannot be
written, since the change would be lost.

The functions run with the rights of a role that may insert into the outbox and
do nothing else, with search_path = pg_catalog; the roles that change tables
need no right on the schema, and get none. Where the migrating role may not
create that role, the functions run with its own rights, and a note says so.

Up and Down are one transaction each, and idempotent. Two of them at a time wait
for each other. Triggers and functions are replaced, not dropped and created,
which holds up writers but not readers; only removing a trigger holds up both.
They wait for LockTimeout at most, then Up gives up with a [BusyError] and has
changed nothing. Waiting with a lock held can end in a deadlock, so only the
first table is waited for, the others a tenth of the default deadlock_timeout:
it is not the application that fails. Where nothing is to be done, no table is
locked at all.

Names and SQL depend on the rules and the schema of the tables alone. A function
carries a hash of itself, by which Status knows one that was edited by hand from
one that is out of date.
*/
package migrations
