// Package listener reads the outbox that icache's triggers write, and hands
// every committed change to a [Handler], at least once and after its commit.
//
// It knows Postgres and nothing of tokens or Redis. It uses one connection, not
// a pool, which must reach the primary directly or through a pooler in session
// mode: LISTEN and session locks do not survive a transaction pooler, which is
// tested when connecting ([ErrPooler]).
//
// # States
//
//	                  error: pause, growing, with jitter
//	     ┌───────────────────────────────────────────────────────┐
//	     ▼                                                       │
//	connecting ──► standby ──► catching up ──► awake ◄──► asleep ┤
//	              (another     (a backlog)    (polls)    (waits  │
//	               leads)                                for the │
//	                               ▲            │        bell)   │
//	                               └─ blocked ◄─┘                │
//	                                 (the handler fails) ────────┘
//
// Any number of listeners may run; a session advisory lock makes one of them
// the leader. A standby asks for the lock a few times a second, so it takes
// over at once when the leader ends, and as soon as Postgres has noticed when
// the leader's process or host is gone: the kernel closes the connection of a
// killed process; that of a host which was cut off ends by the server's TCP
// keepalives (about 11 s); that of a stopped process by idle_session_timeout
// (five heartbeats, 10 s at least). A leader that was only stopped finds its
// connection closed.
//
// Asleep, the leader holds a second advisory lock, the doorbell. A writer whose
// trigger cannot get it shared notifies. Awake, the leader has released it and
// polls, because notifying commits cannot share a flush. It wakes beyond 1,500
// transactions per second, or when writers queue to notify. Awake it polls every
// 0.75 to 4 ms while changes come, the more rarely the more there are; without
// changes the pauses grow to 100 ms. These are also how late a change may be
// seen with [WakePoll], or while a transaction that has written stays open.
//
// # What is guaranteed
//
//   - Every outbox row that commits is applied, and [Handler.Flush] has returned
//     nil for it before the saved cursor passes it. Rows that become visible
//     late, from transactions of minutes or hours, are found when they commit:
//     the reader takes the difference between two snapshots, not ids above the
//     last one.
//   - A row is applied after its commit is visible to everybody.
//   - The changes of one transaction are applied before those of transactions
//     with greater ids that committed no later than it.
//   - Memory is bounded, whatever the backlog and however large a transaction.
//     No statement stays open while the handler works.
//   - Writers never wait for the listener, however it fails. It takes locks that
//     conflict with theirs only with NOWAIT, and for the time of a TRUNCATE.
//   - When it cannot be proved that nothing was missed, [Handler.Reset] is called
//     before the cursor moves on: on the first start, after a crash of Postgres
//     (which may have undone commits that were visible, and uses their
//     transaction ids again), after a promotion or a restore, and when the outbox
//     has reached its size limit, when somebody else has truncated an outbox
//     table, and when a dump was restored over the database: the listener waits
//     for the objects to be there again, and resets once more after the last
//     table has its triggers back. A clean restart of Postgres, a restart of the
//     listener and a lost connection reset nothing. After the reset the rows that
//     the outbox still holds are applied too, except when it had reached its limit.
//
// # Proof
//
// A handler that is one for [Canaries] has the leader send rows of its own
// through the outbox. When one comes back, everything that was committed before
// it was sent has been flushed. In docs/reliability.md that becomes a bound on
// how old a fragment can be.
//
// # What is not
//
//   - Changes may be applied more than once: after a crash of the listener, a
//     lost connection or a handler's error, those since the cursor was last saved
//     (a few times a second), or since the last Flush.
//   - Two leaders may overlap for a moment: one whose connection is gone, and
//     that does not know it yet, may finish a batch.
//   - What triggers do not see is not seen: ATTACH and DETACH PARTITION, DROP
//     TABLE, loads under session_replication_role = replica.
//   - A cold copy of the files of a cluster that was shut down cleanly, put back
//     later, and pg_resetwal cannot be told from a restart.
package listener
