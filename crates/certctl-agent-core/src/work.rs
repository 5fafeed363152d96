//! Items of work, read into what can be acted upon.

use certctl_domain::{
    id::{CertificateId, JobId, TargetId},
    job::{JobStatus, JobType},
    key::KeySpec,
    name::SubjectAltName,
    target::TargetType,
};
use serde::Deserialize as _;
use serde_json::Value;

use crate::wire::body::{VerifyRule, WorkItem};

/// Something to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// Make a key and ask for its certificate.
    Request(RequestWork),
    /// Bring a certificate to a target.
    Deployment(Box<DeploymentWork>),
}

/// A certificate that waits for a signing request.
#[derive(Debug)]
pub(crate) struct RequestWork {
    pub(crate) job: JobId,
    pub(crate) certificate: CertificateId,
    pub(crate) common_name: String,
    pub(crate) sans: Vec<SubjectAltName>,
    pub(crate) spec: KeySpec,
    pub(crate) must_staple: bool,
}

/// A certificate that waits to be deployed.
pub(crate) struct DeploymentWork {
    pub(crate) job: JobId,
    pub(crate) certificate: CertificateId,
    pub(crate) target: TargetId,
    pub(crate) target_type: TargetType,
    pub(crate) config: Value,
    pub(crate) common_name: Option<String>,
    pub(crate) verify: VerifyRule,
}

impl std::fmt::Debug for DeploymentWork {
    /// Without the configuration, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeploymentWork")
            .field("job", &self.job)
            .field("certificate", &self.certificate)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// An item that cannot be acted upon.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadItem {
    /// Which job it is, when that much can be read: the server is told then.
    pub(crate) job: Option<JobId>,
    /// What is wrong with it.
    pub(crate) problem: String,
}

/// Reads an item; `None` is one that waits for somebody else.
pub(crate) fn read(item: &Value) -> Result<Option<Work>, BadItem> {
    let job = item
        .get("id")
        .and_then(Value::as_str)
        .and_then(|id| JobId::parse(id).ok());
    let bad = |problem: String| BadItem {
        job: job.clone(),
        problem,
    };
    let item = WorkItem::deserialize(item)
        .map_err(|problem| bad(format!("the work item cannot be read: {problem}")))?;
    let job = JobId::parse(&item.id).map_err(|problem| bad(format!("id: {problem}")))?;
    let certificate = CertificateId::parse(&item.certificate_id)
        .map_err(|problem| bad(format!("certificate_id: {problem}")))?;
    let job_type = JobType::parse(&item.job_type).map_err(|problem| bad(problem.to_string()))?;
    let status = JobStatus::parse(&item.status).map_err(|problem| bad(problem.to_string()))?;
    match (job_type, status) {
        (JobType::Issuance | JobType::Renewal, JobStatus::AwaitingCsr) => {
            let work = request(job.clone(), certificate, &item);
            work.map(|work| Some(Work::Request(work))).map_err(bad)
        }
        (JobType::Deployment, _) => {
            let work = deployment(job.clone(), certificate, item);
            work.map(|work| Some(Work::Deployment(Box::new(work))))
                .map_err(bad)
        }
        _ => Ok(None),
    }
}

fn request(job: JobId, certificate: CertificateId, item: &WorkItem) -> Result<RequestWork, String> {
    let sans = item.sans.as_deref().unwrap_or_default();
    let common_name = match item.common_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => name,
        None => sans
            .first()
            .ok_or("the work item names nothing to ask for")?,
    };
    Ok(RequestWork {
        job,
        certificate,
        common_name: common_name.to_owned(),
        sans: sans
            .iter()
            .map(|san| SubjectAltName::parse(san).map_err(|problem| problem.to_string()))
            .collect::<Result<_, _>>()?,
        spec: match item
            .key_algorithm
            .as_deref()
            .filter(|name| !name.is_empty())
        {
            Some(name) => KeySpec::parse(name).map_err(|problem| problem.to_string())?,
            None => KeySpec::EcdsaP256,
        },
        must_staple: item.must_staple.unwrap_or(false),
    })
}

fn deployment(
    job: JobId,
    certificate: CertificateId,
    item: WorkItem,
) -> Result<DeploymentWork, String> {
    let target = item.target_id.ok_or("the work item names no target")?;
    let target_type = item
        .target_type
        .ok_or("the work item names no target_type")?;
    Ok(DeploymentWork {
        job,
        certificate,
        target: TargetId::parse(&target).map_err(|problem| format!("target_id: {problem}"))?,
        target_type: TargetType::parse(&target_type).map_err(|problem| problem.to_string())?,
        config: item.target_config.unwrap_or_default(),
        common_name: item.common_name.filter(|name| !name.is_empty()),
        verify: item.verify.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use certctl_domain::{key::KeySpec, name::SubjectAltName};
    use serde_json::json;

    use super::{Work, read};

    #[test]
    fn names_are_classified_and_absent_fields_have_their_defaults() {
        let item = json!({"id": "job-1", "type": "Renewal", "certificate_id": "mc-1", "status": "AwaitingCSR",
            "common_name": "a.example", "sans": ["a.example", "10.0.0.1", "x@example.com", "spiffe://d/w"]});
        let Ok(Some(Work::Request(work))) = read(&item) else {
            panic!("not a request");
        };
        assert_eq!(work.spec, KeySpec::EcdsaP256);
        assert!(!work.must_staple);
        assert!(matches!(
            work.sans.as_slice(),
            [
                SubjectAltName::Dns(_),
                SubjectAltName::Ip(_),
                SubjectAltName::Email(_),
                SubjectAltName::Uri(_)
            ]
        ));
    }

    #[test]
    fn what_cannot_be_done_is_named_with_its_job() {
        let good = json!({"id": "job-1", "type": "Deployment", "certificate_id": "mc-1", "status": "Running",
            "target_id": "t-1", "target_type": "NGINX", "target_config": {}});
        assert!(matches!(read(&good), Ok(Some(Work::Deployment(_)))));
        for (field, value, said) in [
            ("certificate_id", json!("../../etc"), "certificate_id"),
            ("target_id", json!(null), "no target"),
            ("target_type", json!("Gopher"), "Gopher"),
            ("type", json!("Dance"), "Dance"),
            ("status", json!(5), "cannot be read"),
        ] {
            let mut item = good.clone();
            item[field] = value;
            let bad = read(&item).unwrap_err();
            assert_eq!(bad.job.unwrap().as_str(), "job-1");
            assert!(bad.problem.contains(said), "{}", bad.problem);
        }
        assert_eq!(read(&json!({"id": "a/b"})).unwrap_err().job, None);
    }
}
