//! Alarms: what a rule saw and did.
//!
//! An alarm is a record, not ground state: nothing is computed from it, and the digest leaves it
//! out. Its own hash lets `verify` notice a changed byte.

use anyhow::{Result, ensure};

use super::decode::alarm;
use super::fault::explain;
use super::read::Reader;
use super::rows::AlarmRow;
use super::tx::Tx;
use super::{Store, canon};
use autodidact_domain::{Alarm, Phase};

impl Store {
    /// Records an alarm; `at` is RFC 3339. Returns whether it is new: a phase that resumes may
    /// raise an alarm again, and one that differs from a stored one in `at` only is not stored
    /// twice.
    ///
    /// A value or threshold that isn't finite is stored as `None`.
    pub async fn put_alarm(
        &self,
        run: i64,
        iteration: Option<u32>,
        phase: Option<Phase>,
        alarm: &Alarm,
        at: &str,
    ) -> Result<bool> {
        self.guard.check()?;
        let fail = |e| explain(&self.path, "record an alarm", e);
        let finite = |value: Option<f64>| value.filter(|v| v.is_finite());
        let alarm = Alarm { value: finite(alarm.value), threshold: finite(alarm.threshold), ..alarm.clone() };
        let row = AlarmRow { iteration, phase, alarm, at: at.to_owned() };
        let mut tx = Tx::begin(&self.writer).await.map_err(fail)?;
        let key: Option<String> = sqlx::query_scalar("SELECT key FROM runs WHERE id = ?1")
            .bind(run)
            .fetch_optional(&mut *tx)
            .await
            .map_err(fail)?;
        ensure!(key.is_some(), "there is no run {run} in `{}`", self.path.display());
        let done = sqlx::query(
            "INSERT INTO alarms (run, iteration, phase, rule, value, threshold, action, message, at, content_hash)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 WHERE NOT EXISTS (
                 SELECT 1 FROM alarms WHERE run = ?1 AND iteration IS ?2 AND phase IS ?3 AND rule = ?4
                 AND value IS ?5 AND threshold IS ?6 AND action = ?7 AND message = ?8)",
        )
        .bind(run)
        .bind(row.iteration)
        .bind(row.phase.map(|p| p.name()))
        .bind(row.alarm.rule.name())
        .bind(row.alarm.value)
        .bind(row.alarm.threshold)
        .bind(row.alarm.action.name())
        .bind(&row.alarm.message)
        .bind(&row.at)
        .bind(canon::alarm_hash(&key.unwrap_or_default(), &row).as_slice())
        .execute(&mut *tx)
        .await
        .map_err(fail)?;
        tx.commit().await.map_err(fail)?;
        Ok(done.rows_affected() == 1)
    }
}

impl Reader {
    /// The run's alarms, in order of recording.
    pub async fn alarms(&self, run: i64) -> Result<Vec<AlarmRow>> {
        let rows = sqlx::query("SELECT * FROM alarms WHERE run = ?1 ORDER BY id")
            .bind(run)
            .fetch_all(&self.pool)
            .await
            .map_err(self.fail("list alarms"))?;
        rows.iter().map(alarm).collect()
    }
}
