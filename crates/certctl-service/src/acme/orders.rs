//! Orders as their accounts see them (RFC 8555 §7.1.2.1, §7.4).

use certctl_acme::{
    payload::post_as_get,
    resource::{OrderBody, OrdersBody},
};
use certctl_domain::{
    acme::{AcmeAuthorizationId, AcmeOrderId, Order, OrderStatus, Problem, ProblemType},
    time::Timestamp,
};
use certctl_repository::acme::orders;

use super::{
    Acme, OrderAnswer, OrdersAnswer, Refusal, SignedRequest,
    accounts::own,
    recent::Whole,
    signed::{Opened, Signer, absent, foreign},
};
use crate::Error;

/// Orders on a page (acme-server §1).
const PAGE: i64 = 100;
/// Seconds after which an order that is being issued is worth another look (acme-server §6).
pub(super) const LOOK_AGAIN: u64 = 3;

impl Acme {
    /// Shows an order.
    ///
    /// # Errors
    /// Those of every signed request, `unauthorized` for another's, `malformed` with 404 where there is none.
    pub async fn order(&self, request: SignedRequest, id: &str) -> Result<OrderAnswer, Refusal> {
        let opened = self.open(&request).await?;
        let shown = self.show_order(&opened, &request, id).await;
        self.settle(&opened, shown).await
    }

    async fn show_order(
        &self,
        opened: &Opened,
        request: &SignedRequest,
        id: &str,
    ) -> Result<OrderAnswer, Refusal> {
        let signer = self.signer(opened, request).await?;
        post_as_get(opened.jws.payload())?;
        self.touch(opened, &signer).await?;
        let (order, authorizations) = self.own_order(&signer, id).await?;
        Ok(answer_of(order, &authorizations, request))
    }

    /// An order of the account that signed, as it was when this replica made it: whoever changes it looks again.
    pub(super) fn own_recent_order(&self, signer: &Signer, id: &str) -> Option<Whole> {
        let recent = self.state.recent.take_order(&AcmeOrderId::parse(id)?);
        recent.filter(|(order, _)| order.account_id == *signer.id())
    }

    /// An order of the account that signed, with its authorisations. Whose it is comes before what it is.
    pub(super) async fn own_order(&self, signer: &Signer, id: &str) -> Result<Whole, Refusal> {
        let id = AcmeOrderId::parse(id).ok_or_else(|| absent("order"))?;
        let found = orders::find_whole(&mut self.services.read().await?, &id).await?;
        let (order, authorizations) = found.ok_or_else(|| absent("order"))?;
        if order.account_id == *signer.id() {
            Ok((order, authorizations))
        } else {
            Err(foreign())
        }
    }

    /// Lists the orders of an account that did not come to nothing, newest first; `cursor` is what the page before ended with.
    ///
    /// # Errors
    /// Those of every signed request, `unauthorized` for another's, `malformed` for a cursor that was never given out.
    pub async fn orders(
        &self,
        request: SignedRequest,
        account: &str,
        cursor: Option<&str>,
    ) -> Result<OrdersAnswer, Refusal> {
        let opened = self.open(&request).await?;
        let listed = self.list_orders(&opened, &request, account, cursor).await;
        self.settle(&opened, listed).await
    }

    async fn list_orders(
        &self,
        opened: &Opened,
        request: &SignedRequest,
        account: &str,
        cursor: Option<&str>,
    ) -> Result<OrdersAnswer, Refusal> {
        let signer = self.signer(opened, request).await?;
        own(&signer, account)?;
        post_as_get(opened.jws.payload())?;
        let after = cursor.map(read_cursor).transpose()?;
        self.touch(opened, &signer).await?;
        let mut conn = self.services.read().await?;
        let after = after.as_ref().map(|(at, id)| (*at, id));
        let mut rows = orders::list_after(&mut conn, signer.id(), after, PAGE + 1).await?;
        let page = usize::try_from(PAGE).map_err(Error::internal)?;
        let has_more = rows.len() > page;
        rows.truncate(page);
        let last = rows.last().filter(|_| has_more);
        Ok(OrdersAnswer {
            next_cursor: last.map(|(id, at)| format!("{}.{id}", at.as_micros())),
            orders: OrdersBody::new(rows.iter().map(|(id, _)| id), &request.urls),
        })
    }
}

/// An order with the URLs of its authorisations.
pub(super) fn answer_of(
    order: Order,
    authorizations: &[AcmeAuthorizationId],
    request: &SignedRequest,
) -> OrderAnswer {
    OrderAnswer {
        order: OrderBody::new(&order, authorizations, &request.urls),
        retry_after: (order.status == OrderStatus::Processing).then_some(LOOK_AGAIN),
        id: order.id,
    }
}

/// Microseconds and id of the order that a page ended with.
fn read_cursor(text: &str) -> Result<(Timestamp, AcmeOrderId), Problem> {
    let read = || {
        let (micros, id) = text.split_once('.')?;
        let at = Timestamp::from_micros(micros.parse().ok()?);
        Some((at, AcmeOrderId::parse(id)?))
    };
    read().ok_or_else(|| Problem::new(ProblemType::Malformed, "the cursor is none of this list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let id = AcmeOrderId::from_random([7; 10]);
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        let text = format!("{}.{id}", at.as_micros());
        assert_eq!(read_cursor(&text).unwrap(), (at, id));
        for bad in [
            "",
            ".",
            "1",
            "1.",
            "x.acme-ord-0000000000000000",
            "1.acme-ord-",
        ] {
            assert!(read_cursor(bad).is_err(), "{bad}");
        }
    }
}
