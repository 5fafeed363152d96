//! Programs from PyPI, each in a folder of its own below the target folder, by exact version.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use certctl_procs::install::{self, Program};

use crate::step::{root, run};

/// A package that brings programs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    /// Its name on PyPI.
    pub(crate) name: &'static str,
    /// The version that the outcome was looked at with; a newer one may find what this one did not.
    pub(crate) version: &'static str,
}

/// What makes random requests out of an OpenAPI document.
pub(crate) const SCHEMATHESIS: Package = Package {
    name: "schemathesis",
    version: "4.32.5",
};

/// What makes load.
pub(crate) const K6: Package = Package {
    name: "k6",
    version: "1.1.0",
};

/// What checks certificates, CRLs and OCSP answers against the RFCs.
pub(crate) const PKILINT: Package = Package {
    name: "pkilint",
    version: "0.13.3",
};

impl Package {
    /// The folder of its programs; installed when it is not there yet.
    pub(crate) fn programs(self) -> Result<PathBuf> {
        let folder = root().join(format!("target/tools/{}-{}", self.name, self.version));
        let (programs, whole) = (folder.join("bin"), folder.join("whole"));
        // Written last, so that an installation that was cut short is begun again.
        if !whole.exists() {
            install::ensure(&[Program::Python])?;
            self.install(&folder)?;
            std::fs::write(&whole, "")
                .with_context(|| format!("cannot write {}", whole.display()))?;
        }
        ensure!(programs.is_dir(), "{} has no programs", self.name);
        Ok(programs)
    }

    fn install(self, folder: &Path) -> Result<()> {
        eprintln!("    installing {} {} from PyPI", self.name, self.version);
        let mut venv = Command::new(Program::Python.require()?);
        venv.args(["-m", "venv", "--clear"]).arg(folder);
        run(venv)?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            &format!("{}=={}", self.name, self.version),
        ]);
        run(pip)
    }
}
