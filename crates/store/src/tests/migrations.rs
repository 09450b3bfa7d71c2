//! The migrations that the program holds, compared with the folder.

use std::path::Path;

use sqlx::migrate::{Migration, Migrator};

use super::*;
use crate::open::migrator;

#[test]
fn every_file_of_the_folder_is_a_migration_as_sqlx_reads_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let read = block_on(Migrator::new(folder.as_path())).unwrap();
    let all = |migrator: &Migrator| -> Vec<_> {
        let of = |m: &Migration| {
            let sql = m.sql.as_str().to_owned();
            (m.version, m.description.clone(), m.migration_type, sql, m.checksum.clone(), m.no_tx)
        };
        migrator.iter().map(of).collect()
    };
    assert_eq!(all(&migrator()), all(&read));
    assert_eq!(schema_version(), read.iter().map(|m| m.version).max().unwrap(), "numbered from 1");
}

/// A store holds the hashes of its migrations and is refused if one has changed.
#[test]
fn what_stores_were_made_by_stays_as_it_was() {
    let starts = |m: &Migration| m.checksum.first_chunk().map(|start| u64::from_be_bytes(*start));
    let expected = [
        0xdf2b_7dc9_ba19_05c8,
        0x17ee_e306_3344_8a03,
        0x8ca0_5498_fd3e_23b7,
        0x4018_b814_91be_66df,
        0x48ac_a8fc_be98_2257,
    ];
    assert_eq!(migrator().iter().map(starts).collect::<Vec<_>>(), expected.map(Some));
}
