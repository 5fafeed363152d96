//! The Merkle tree of RFC 9162 §2.1.

use ring::digest::{Context, SHA256};

use super::Hash;

fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// SHA-256 of bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Hash {
    hash(&[bytes])
}

/// The hash of a leaf. The prefixes keep a node from being passed off as a leaf (§2.1.1).
#[must_use]
pub fn leaf(entry: &[u8]) -> Hash {
    hash(&[&[0], entry])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left, right])
}

/// The root of the tree over these leaves, in this order (§2.1.1).
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(split(many.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The greatest power of two below `count`, which is at least 2.
fn split(count: usize) -> usize {
    1 << (usize::BITS - 1 - (count - 1).leading_zeros())
}

/// The hashes that, with the leaf at `index`, make the root; lowest first (§2.1.3.1). Nothing when there is no such leaf.
#[must_use]
pub fn path(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut leaves, mut index, mut path) = (leaves, index, Vec::new());
    while leaves.len() > 1 {
        let (left, right) = leaves.split_at(split(leaves.len()));
        if index < left.len() {
            path.push(root(right));
            leaves = left;
        } else {
            path.push(root(left));
            index -= left.len();
            leaves = right;
        }
    }
    path.reverse();
    Some(path)
}

/// The root that a leaf at `index` of `size` has by its path (§2.1.3.2). Nothing when the path is not of the right length.
#[must_use]
pub fn root_by_path(leaf: Hash, index: usize, size: usize, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last, mut root) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if at % 2 == 1 || at == last {
            root = node(sibling, &root);
            while at % 2 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            root = node(&root, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Hash, leaf, path, root, root_by_path};

    /// The inputs and roots that implementations of Certificate Transparency test by.
    #[test]
    fn roots_are_those_of_the_known_vectors() {
        let inputs = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let leaves: Vec<Hash> = inputs
            .iter()
            .map(|input| leaf(&hex::decode(input).unwrap()))
            .collect();
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        for (count, expected) in roots.iter().enumerate() {
            assert_eq!(
                hex::encode(root(&leaves[..count])),
                *expected,
                "{count} leaves"
            );
        }
    }

    proptest! {
        #[test]
        fn every_leaf_is_proved_and_no_other(size in 1_usize..70, pick in 0_usize..70, other in 0_usize..70) {
            let leaves: Vec<Hash> = (0..size).map(|n| leaf(&n.to_be_bytes())).collect();
            let (whole, index) = (root(&leaves), pick % size);
            let proof = path(&leaves, index).unwrap();
            prop_assert_eq!(root_by_path(leaves[index], index, size, &proof), Some(whole));
            let elsewhere = other % size;
            if elsewhere != index {
                prop_assert_ne!(root_by_path(leaves[index], elsewhere, size, &proof), Some(whole));
                prop_assert_ne!(root_by_path(leaves[elsewhere], index, size, &proof), Some(whole));
            }
            let mut long = proof.clone();
            long.push(whole);
            prop_assert_ne!(root_by_path(leaves[index], index, size, &long), Some(whole));
            prop_assert_eq!(path(&leaves, size), None);
        }
    }
}
