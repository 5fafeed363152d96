//! One macro for enums that are text in the database and on the wire.
//!
//! Input is compared case-insensitively, what is stored and sent is always the canonical spelling (contract, model §2).

/// The text is none of the values of the enum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a {kind}; expected one of {expected}")]
pub struct UnknownValue {
    /// What the enum is called in the contract.
    pub kind: &'static str,
    /// What was given, cut to 64 characters.
    pub value: String,
    /// The canonical values, comma separated.
    pub expected: String,
}

/// Declares an enum with its canonical spellings, `as_str`, `parse`, `ALL`, `Display` and `FromStr`.
#[macro_export]
macro_rules! text_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident ($kind:literal) {
        $($(#[$vmeta:meta])* $variant:ident = $text:literal $(| $alias:literal)*),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// Every value, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The canonical spelling.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// Reads any capitalisation of a canonical spelling or of an accepted alias.
            ///
            /// # Errors
            /// [`UnknownValue`]($crate::text_enum::UnknownValue) naming the accepted values.
            pub fn parse(text: &str) -> Result<Self, $crate::text_enum::UnknownValue> {
                $(if text.eq_ignore_ascii_case($text) $(|| text.eq_ignore_ascii_case($alias))* {
                    return Ok(Self::$variant);
                })+
                Err($crate::text_enum::UnknownValue {
                    kind: $kind,
                    value: text.chars().take(64).collect(),
                    expected: Self::ALL.iter().map(|v| v.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::text_enum::UnknownValue;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }
    };
}
