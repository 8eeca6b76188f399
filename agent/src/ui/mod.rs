//! The web page: what is there and what it carries, as a picture and as tables, for whoever reaches the address.
//!
//! It only shows: there is nothing that changes anything. Everything that the page is made of is in the binary, and
//! the browser is told to take nothing from elsewhere.

mod history;
mod serve;
#[cfg(test)]
mod tests;

pub use serve::{Ui, UiError, bind};
