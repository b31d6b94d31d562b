package integration

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	atlas "ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/postgres"
	"github.com/stretchr/testify/require"
)

// withAtlas does what atlas migrate hash, validate and apply do: a transaction for
// each file.
func withAtlas(t *testing.T, url, dir string) {
	t.Helper()
	files, err := atlas.NewLocalDir(dir)
	require.NoError(t, err)
	sum, err := files.Checksum()
	require.NoError(t, err)
	require.NoError(t, atlas.WriteSumFile(files, sum))
	require.NoError(t, atlas.Validate(files))

	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer db.Close()
	revisions := &atlasRevisions{db}
	_, err = db.ExecContext(t.Context(), `CREATE SCHEMA IF NOT EXISTS atlas_schema_revisions;
		CREATE TABLE IF NOT EXISTS atlas_schema_revisions.revisions (version text PRIMARY KEY, hash text, applied int, total int)`)
	require.NoError(t, err)
	for {
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		driver, err := postgres.Open(tx)
		require.NoError(t, err)
		executor, err := atlas.NewExecutor(driver, files, revisions, atlas.WithAllowDirty(true))
		require.NoError(t, err)
		err = executor.ExecuteN(t.Context(), 1)
		if err == nil {
			require.NoError(t, tx.Commit())
			continue
		}
		require.NoError(t, tx.Rollback())
		require.ErrorIs(t, err, atlas.ErrNoPendingFiles, filepath.Base(dir))
		return
	}
}

// atlasRevisions remembers what was applied. The table of the command line is
// no part of the library.
type atlasRevisions struct{ db *sql.DB }

func (r *atlasRevisions) Ident() *atlas.TableIdent {
	return &atlas.TableIdent{Schema: "atlas_schema_revisions", Name: "revisions"}
}

func (r *atlasRevisions) ReadRevisions(ctx context.Context) ([]*atlas.Revision, error) {
	rows, err := r.db.QueryContext(ctx, "SELECT version, hash, applied, total FROM atlas_schema_revisions.revisions ORDER BY version")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []*atlas.Revision
	for rows.Next() {
		v := &atlas.Revision{Type: atlas.RevisionTypeExecute}
		if err := rows.Scan(&v.Version, &v.Hash, &v.Applied, &v.Total); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

func (r *atlasRevisions) ReadRevision(ctx context.Context, version string) (*atlas.Revision, error) {
	list, err := r.ReadRevisions(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range list {
		if v.Version == version {
			return v, nil
		}
	}
	return nil, atlas.ErrRevisionNotExist
}

func (r *atlasRevisions) WriteRevision(ctx context.Context, v *atlas.Revision) error {
	_, err := r.db.ExecContext(ctx, `INSERT INTO atlas_schema_revisions.revisions VALUES ($1, $2, $3, $4)
		ON CONFLICT (version) DO UPDATE SET hash = EXCLUDED.hash, applied = EXCLUDED.applied, total = EXCLUDED.total`, v.Version, v.Hash, v.Applied, v.Total)
	return err
}

func (r *atlasRevisions) DeleteRevision(ctx context.Context, version string) error {
	_, err := r.db.ExecContext(ctx, "DELETE FROM atlas_schema_revisions.revisions WHERE version = $1", version)
	return err
}
