//! Scores, and the specs that they were made by.
//!
//! A scoring is one act: one scorer, at most one spec, many rows. Scores are never changed. A
//! trajectory that is scored again, by another scorer or spec or in a later regrade, gets new rows,
//! and the last scoring counts.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, bail, ensure};
use sqlx::Row;

use super::canon;
use super::decode::{score, spec};
use super::read::Reader;
use super::rows::Scoring;
use super::unit::{Unit, finite};
use super::write::insert;
use autodidact_domain::profile::{self, Operator};
use autodidact_domain::{Reward, Score, ScorerName, ScorerSpec};

impl Unit {
    /// Stores the rows of one scoring, and its spec if that isn't stored.
    ///
    /// # Errors
    /// A score that is stored already for the same scorer, spec and regrade in this iteration: a
    /// phase that resumes must score only what is missing. A deliberate later scoring has a number,
    /// [`Scoring::regrade`]; [`Reader::regrades`] returns the last one.
    pub async fn put_scores(
        &mut self,
        scoring: impl Into<Scoring<'_>>,
        scores: &[(i64, Score)],
    ) -> Result<()> {
        let scoring = scoring.into();
        for (trajectory, score) in scores {
            let what = || format!("the {} score of trajectory {trajectory}", score.scorer);
            score.value.map_or(Ok(()), |v| finite(&what(), v))?;
        }
        ensure!(scoring.regrade != Some(0), "regrades are numbered from 1");
        if let Some(spec) = scoring.spec {
            self.put_spec(spec).await?;
        }
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO scorings (unit, run, iteration, scorer_hash, spec, regrade)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING id",
        )
        .bind(self.id)
        .bind(self.run)
        .bind(self.iteration)
        .bind(scoring.scorer_hash)
        .bind(scoring.spec.map(|s| s.hash.as_str()))
        .bind(scoring.regrade)
        .fetch_one(self.db())
        .await
        .map_err(|e| self.failed("scores", e))?;
        let head = "INSERT INTO scores (trajectory, scorer, scoring, value, error)";
        let done = insert(self.db(), head, scores, |query, (trajectory, score)| {
            query
                .bind(*trajectory)
                .bind(score.scorer.to_string())
                .bind(id)
                .bind(score.value.ok())
                .bind(score.value.err().map(|e| e.name()))
        })
        .await;
        done.map_err(|e| self.failed("a score", e))?;
        self.refuse_repeated_scores(id, scoring).await
    }

    async fn put_spec(&mut self, spec: &ScorerSpec) -> Result<()> {
        let hash = blake3::hash(spec.json.as_bytes()).to_hex();
        ensure!(
            spec.hash == hash.as_str(),
            "the spec of `{}` is named {}, but the hash of its JSON is {hash}",
            spec.name,
            spec.hash
        );
        let done = sqlx::query(
            "INSERT INTO specs (hash, name, json, content_hash) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (hash) DO NOTHING",
        )
        .bind(&spec.hash)
        .bind(spec.name.as_str())
        .bind(&spec.json)
        .bind(canon::spec_hash(spec).as_slice())
        .execute(self.db())
        .await
        .map_err(|e| self.failed("a spec", e))?;
        if done.rows_affected() == 0 {
            let stored: String = sqlx::query_scalar("SELECT name FROM specs WHERE hash = ?1")
                .bind(&spec.hash)
                .fetch_one(self.db())
                .await
                .map_err(|e| self.failed("a spec", e))?;
            ensure!(
                stored == spec.name.as_str(),
                "spec {} of `{}` is already stored, for the scorer `{stored}`; put the scorer's name into its JSON",
                spec.hash,
                spec.name
            );
        }
        Ok(())
    }

    async fn refuse_repeated_scores(&mut self, id: i64, scoring: Scoring<'_>) -> Result<()> {
        let repeated: Option<(i64, String)> = sqlx::query_as(
            "SELECT s.trajectory, s.scorer FROM scorings g JOIN scores s ON s.scoring = g.id
             JOIN scores n ON n.trajectory = s.trajectory AND n.scorer = s.scorer AND n.scoring = ?1
             WHERE g.run = ?2 AND g.iteration = ?3 AND g.scorer_hash = ?4 AND g.spec IS ?5 AND g.regrade IS ?6
             AND g.id <> ?1 LIMIT 1",
        )
        .bind(id)
        .bind(self.run)
        .bind(self.iteration)
        .bind(scoring.scorer_hash)
        .bind(scoring.spec.map(|s| s.hash.as_str()))
        .bind(scoring.regrade)
        .fetch_optional(self.db())
        .await
        .map_err(|e| self.failed("scores", e))?;
        if let Some((trajectory, scorer)) = repeated {
            bail!(
                "the {scorer} score of trajectory {trajectory} by {} in run {}, iteration {} is already stored; score only what is missing",
                scoring.scorer_hash,
                self.run,
                self.iteration
            );
        }
        Ok(())
    }
}

impl Reader {
    /// The scores made in an iteration, by trajectory, then in the scorers' order; of repeated ones
    /// the last counts.
    pub async fn scores(&self, run: i64, iteration: u32) -> Result<Vec<(i64, Score)>> {
        let _wait = profile::waiting(Operator::Store);
        let rows = sqlx::query(
            "SELECT s.trajectory, s.scorer, s.value, s.error FROM scorings g JOIN scores s ON s.scoring = g.id
             WHERE g.run = ?1 AND g.iteration = ?2 ORDER BY s.trajectory, g.id DESC",
        )
        .bind(run)
        .bind(iteration)
        .fetch_all(&self.pool)
        .await
        .map_err(self.fail("list scores"))?;
        let mut scores: Vec<(i64, Score)> =
            rows.iter().map(|r| Ok((r.try_get("trajectory")?, score(r)?))).collect::<Result<_>>()?;
        // The sort is stable, so the latest of equal keys comes first and is the one that stays.
        scores.sort_by(|(t, a), (u, b)| (t, &a.scorer).cmp(&(u, &b.scorer)));
        scores.dedup_by(|(t, a), (u, b)| (t, &a.scorer) == (u, &b.scorer));
        Ok(scores)
    }

    /// The trajectories that have a score, or a failed one, by this scorer in an iteration, under
    /// the hash and the spec of `scoring`.
    ///
    /// A stored scoring without a spec is from a build that had none, and counts. Regrades don't:
    /// the run's own scoring doesn't depend on them.
    pub async fn scored(
        &self,
        run: i64,
        iteration: u32,
        scorer: &ScorerName,
        scoring: impl Into<Scoring<'_>>,
    ) -> Result<HashSet<i64>> {
        let scoring = scoring.into();
        let _wait = profile::waiting(Operator::Store);
        let ids: Vec<i64> = sqlx::query_scalar(
            "SELECT s.trajectory FROM scorings g JOIN scores s ON s.scoring = g.id
             WHERE g.run = ?1 AND g.iteration = ?2 AND g.scorer_hash = ?3 AND s.scorer = ?4 AND g.regrade IS NULL
             AND (?5 IS NULL OR g.spec IS NULL OR g.spec = ?5)",
        )
        .bind(run)
        .bind(iteration)
        .bind(scoring.scorer_hash)
        .bind(scorer.as_str())
        .bind(scoring.spec.map(|s| s.hash.as_str()))
        .fetch_all(&self.pool)
        .await
        .map_err(self.fail("list scored trajectories"))?;
        Ok(ids.into_iter().collect())
    }

    /// The rewards given in an iteration, by trajectory; of repeated ones the last counts.
    pub async fn rewards(&self, run: i64, iteration: u32) -> Result<HashMap<i64, Reward>> {
        let _wait = profile::waiting(Operator::Store);
        let rows = sqlx::query(
            "SELECT s.trajectory, s.scorer, s.value, s.error FROM scorings g JOIN scores s ON s.scoring = g.id
             WHERE g.run = ?1 AND g.iteration = ?2 AND s.scorer = 'reward' ORDER BY g.id",
        )
        .bind(run)
        .bind(iteration)
        .fetch_all(&self.pool)
        .await
        .map_err(self.fail("list rewards"))?;
        rows.iter().map(|r| Ok((r.try_get("trajectory")?, score(r)?.value))).collect()
    }

    /// How many deliberate later scorings an iteration has had: the number of the last one, or 0.
    pub async fn regrades(&self, run: i64, iteration: u32) -> Result<u32> {
        sqlx::query_scalar("SELECT coalesce(max(regrade), 0) FROM scorings WHERE run = ?1 AND iteration = ?2")
            .bind(run)
            .bind(iteration)
            .fetch_one(&self.pool)
            .await
            .map_err(self.fail("count regrades"))
    }

    /// Every spec that a stored score names, by its name and hash.
    pub async fn specs(&self) -> Result<Vec<ScorerSpec>> {
        let rows = sqlx::query("SELECT * FROM specs ORDER BY name, hash").fetch_all(&self.pool).await;
        rows.map_err(self.fail("list specs"))?.iter().map(spec).collect()
    }
}
