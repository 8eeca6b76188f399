//! A real dockerd beside ours: what Docker does with packets is asked of Docker itself.

mod oracle;
