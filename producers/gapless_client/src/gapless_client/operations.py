"""The operations of a gateway, for both clients. Generated: don't edit, run `make ops`."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal
from urllib.parse import quote

from gapless_client import models


def _quoted(part: str | int) -> str:
    return quote(str(part), safe="")


class Operations(ABC):
    """Each operation; it returns when the gateway has answered."""

    @abstractmethod
    def _call(self, method: str, path: str, **how: Any) -> Any: ...

    def create_invoice(self, body: models.InvoiceRequest, *, wait_seconds: int | None = None) -> models.InvoiceView | models.AcceptedInvoice:
        """Ask for an invoice. If it takes longer, the answer says only that it was accepted."""
        answer: models.InvoiceView | models.AcceptedInvoice = self._call("POST", "/v1/invoices", body=body, wait_seconds=wait_seconds, key="order_id")
        return answer

    def credit_invoice(self, order_id: str, body: models.CreditCommand | None = None, *, wait_seconds: int | None = None) -> models.CreditNoteView | models.AcceptedCredit:
        """Credit an invoice, or a part of it. If it takes longer, the answer says only that it was accepted."""
        answer: models.CreditNoteView | models.AcceptedCredit = self._call("POST", f"/v1/invoices/{_quoted(order_id)}/credit-notes", body=body or {}, wait_seconds=wait_seconds, key="credit_note_id")
        return answer

    def get_credit_notes(self, order_id: str) -> models.CreditNoteList:
        """An order's credit notes, oldest first."""
        answer: models.CreditNoteList = self._call("GET", f"/v1/invoices/{_quoted(order_id)}/credit-notes")
        return answer

    def create_credit_notes(self, body: models.CreditNoteRequest, *, wait_seconds: int | None = None) -> models.CreditNoteView | models.AcceptedCredit:
        """Ask for a credit note of an invoice that was issued elsewhere. If it takes longer, the answer says only that it was accepted."""
        answer: models.CreditNoteView | models.AcceptedCredit = self._call("POST", "/v1/credit-notes", body=body, wait_seconds=wait_seconds, key="credit_note_id")
        return answer

    def get_invoice(self, order_id: str) -> models.InvoiceView | models.AcceptedInvoice | models.RejectedInvoice:
        """An order's invoice."""
        answer: models.InvoiceView | models.AcceptedInvoice | models.RejectedInvoice = self._call("GET", f"/v1/invoices/{_quoted(order_id)}")
        return answer

    def get_invoice_document(self, order_id: str) -> bytes:
        """An invoice's document."""
        answer: bytes = self._call("GET", f"/v1/invoices/{_quoted(order_id)}/document", is_json=False)
        return answer

    def get_credit_note_document(self, order_id: str, refund_id: str) -> bytes:
        """A credit note's document."""
        answer: bytes = self._call("GET", f"/v1/invoices/{_quoted(order_id)}/credit-notes/{_quoted(refund_id)}/document", is_json=False)
        return answer

    def get_series(self, *, limit: int | None = None, cursor: str | None = None) -> models.SeriesList:
        """The seller's series, by id."""
        answer: models.SeriesList = self._call("GET", "/v1/series", query={"limit": limit, "cursor": cursor})
        return answer

    def each_series(self) -> Iterator[models.SeriesView]:
        """The seller's series, by id: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = self.get_series(limit=100, cursor=cursor)
            for each in page["series"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    def get_number(self, series_id: str, number: int) -> models.NumberView:
        """What became of a number."""
        answer: models.NumberView = self._call("GET", f"/v1/series/{_quoted(series_id)}/numbers/{_quoted(number)}")
        return answer

    def create_document_link(self, order_id: str, body: models.LinkRequest | None = None) -> models.LinkView:
        """A link to an invoice's document, for people without a key."""
        answer: models.LinkView = self._call("POST", f"/v1/invoices/{_quoted(order_id)}/document-link", body=body or {}, is_repeatable=False)
        return answer

    def create_credit_note_link(self, order_id: str, refund_id: str, body: models.LinkRequest | None = None) -> models.LinkView:
        """A link to a credit note's document, for people without a key."""
        answer: models.LinkView = self._call("POST", f"/v1/invoices/{_quoted(order_id)}/credit-notes/{_quoted(refund_id)}/document-link", body=body or {}, is_repeatable=False)
        return answer

    def check_out(self, body: models.CheckoutRequest | models.CartCheckout, *, wait_seconds: int | None = None) -> models.OrderView | models.AcceptedOrder:
        """Check out. If it takes longer, the answer says only that it was accepted."""
        answer: models.OrderView | models.AcceptedOrder = self._call("POST", "/v1/checkouts", body=body, wait_seconds=wait_seconds, key="order_id")
        return answer

    def get_cart(self, cart_id: str) -> models.CartView:
        """A cart."""
        answer: models.CartView = self._call("GET", f"/v1/carts/{_quoted(cart_id)}")
        return answer

    def delete_cart(self, cart_id: str) -> None:
        """Delete a cart."""
        answer: None = self._call("DELETE", f"/v1/carts/{_quoted(cart_id)}")
        return answer

    def put_cart_line(self, cart_id: str, sku: str, body: models.CartLineChange) -> models.CartView:
        """Put pieces of a product into a cart, or change how many."""
        answer: models.CartView = self._call("PUT", f"/v1/carts/{_quoted(cart_id)}/lines/{_quoted(sku)}", body=body)
        return answer

    def delete_cart_line(self, cart_id: str, sku: str) -> models.CartView:
        """Take a SKU out of a cart."""
        answer: models.CartView = self._call("DELETE", f"/v1/carts/{_quoted(cart_id)}/lines/{_quoted(sku)}")
        return answer

    def merge_cart(self, cart_id: str, body: models.CartMerge) -> models.MergedCart:
        """Add another cart's lines, as a guest's at login, and delete that one."""
        answer: models.MergedCart = self._call("POST", f"/v1/carts/{_quoted(cart_id)}/merge", body=body, is_repeatable=False)
        return answer

    def get_orders(self, *, customer: str, limit: int | None = None, cursor: str | None = None) -> models.OrderList:
        """A customer's orders, newest first."""
        answer: models.OrderList = self._call("GET", "/v1/orders", query={"customer": customer, "limit": limit, "cursor": cursor})
        return answer

    def each_order(self, *, customer: str) -> Iterator[models.OrderSummary]:
        """A customer's orders, newest first: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = self.get_orders(customer=customer, limit=100, cursor=cursor)
            for each in page["orders"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    def get_order(self, order_id: str) -> models.OrderView | models.AcceptedOrder | models.WaitingOrder | models.RejectedOrder:
        """An order."""
        answer: models.OrderView | models.AcceptedOrder | models.WaitingOrder | models.RejectedOrder = self._call("GET", f"/v1/orders/{_quoted(order_id)}")
        return answer

    def create_tracking_link(self, order_id: str, body: models.LinkRequest | None = None) -> models.LinkView:
        """A link to an order's tracking page, for people without a key."""
        answer: models.LinkView = self._call("POST", f"/v1/orders/{_quoted(order_id)}/tracking-link", body=body or {}, is_repeatable=False)
        return answer

    def ship(self, order_id: str, body: models.ShipCommand | None = None, *, wait_seconds: int | None = None) -> models.OrderView | models.AcceptedCommand:
        """Ship an order. If it takes longer, the answer says only that it was accepted."""
        answer: models.OrderView | models.AcceptedCommand = self._call("POST", f"/v1/orders/{_quoted(order_id)}/shipments", body=body or {}, wait_seconds=wait_seconds)
        return answer

    def deliver(self, order_id: str, body: models.PlainCommand | None = None, *, wait_seconds: int | None = None) -> models.OrderView | models.AcceptedCommand:
        """An order was delivered. If it takes longer, the answer says only that it was accepted."""
        answer: models.OrderView | models.AcceptedCommand = self._call("POST", f"/v1/orders/{_quoted(order_id)}/deliveries", body=body or {}, wait_seconds=wait_seconds)
        return answer

    def cancel(self, order_id: str, body: models.PlainCommand | None = None, *, wait_seconds: int | None = None) -> models.OrderView | models.AcceptedCommand:
        """Cancel an order. If it takes longer, the answer says only that it was accepted."""
        answer: models.OrderView | models.AcceptedCommand = self._call("POST", f"/v1/orders/{_quoted(order_id)}/cancellations", body=body or {}, wait_seconds=wait_seconds)
        return answer

    def refund(self, order_id: str, body: models.RefundCommand | None = None, *, wait_seconds: int | None = None) -> models.OrderView | models.AcceptedCommand:
        """Refund an order, or lines of it. If it takes longer, the answer says only that it was accepted."""
        answer: models.OrderView | models.AcceptedCommand = self._call("POST", f"/v1/orders/{_quoted(order_id)}/refunds", body=body or {}, wait_seconds=wait_seconds, key="refund_id")
        return answer

    def get_stock_levels(self, *, limit: int | None = None, cursor: str | None = None) -> models.StockList:
        """All stock, by SKU."""
        answer: models.StockList = self._call("GET", "/v1/stock", query={"limit": limit, "cursor": cursor})
        return answer

    def each_stock_level(self) -> Iterator[models.StockLevel]:
        """All stock, by SKU: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = self.get_stock_levels(limit=100, cursor=cursor)
            for each in page["stock"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    def get_stock(self, sku: str) -> models.StockLevel:
        """A SKU's stock."""
        answer: models.StockLevel = self._call("GET", f"/v1/stock/{_quoted(sku)}")
        return answer

    def put_stock(self, sku: str, body: models.StockChange) -> models.StockLevel:
        """Set or adjust a SKU's stock."""
        answer: models.StockLevel = self._call("PUT", f"/v1/stock/{_quoted(sku)}", body=body)
        return answer

    def get_products(self, *, limit: int | None = None, cursor: str | None = None) -> models.ProductList:
        """The seller's products, by id."""
        answer: models.ProductList = self._call("GET", "/v1/products", query={"limit": limit, "cursor": cursor})
        return answer

    def each_product(self) -> Iterator[models.ProductView]:
        """The seller's products, by id: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = self.get_products(limit=100, cursor=cursor)
            for each in page["products"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    def get_product(self, product_id: str) -> models.ProductView:
        """A product, as the seller has written it."""
        answer: models.ProductView = self._call("GET", f"/v1/products/{_quoted(product_id)}")
        return answer

    def put_product(self, product_id: str, body: models.ProductBody) -> models.ProductView:
        """Put a product into the catalogue, or replace it."""
        answer: models.ProductView = self._call("PUT", f"/v1/products/{_quoted(product_id)}", body=body)
        return answer

    def delete_product(self, product_id: str) -> None:
        """Take a product out of the catalogue."""
        answer: None = self._call("DELETE", f"/v1/products/{_quoted(product_id)}")
        return answer

    def get_catalogue(self, seller_id: str, *, category: str | None = None, limit: int | None = None, cursor: str | None = None) -> models.CatalogueList:
        """A seller's products, by id, for buyers."""
        answer: models.CatalogueList = self._call("GET", f"/v1/catalogue/{_quoted(seller_id)}/products", query={"category": category, "limit": limit, "cursor": cursor})
        return answer

    def each_catalogue(self, seller_id: str, *, category: str | None = None) -> Iterator[models.CatalogueProduct]:
        """A seller's products, by id, for buyers: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = self.get_catalogue(seller_id, category=category, limit=100, cursor=cursor)
            for each in page["products"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    def get_catalogue_product(self, seller_id: str, product_id: str) -> models.CatalogueProduct:
        """A product, for buyers."""
        answer: models.CatalogueProduct = self._call("GET", f"/v1/catalogue/{_quoted(seller_id)}/products/{_quoted(product_id)}")
        return answer

    def search_catalogue(self, seller_id: str, *, q: str | None = None, lang: str | None = None, category: str | None = None, brand: str | None = None, currency: str | None = None, price_min: str | None = None, price_max: str | None = None, rating_min: str | None = None, in_stock: bool | None = None, sort: Literal["relevance", "price", "-price", "newest"] | None = None, limit: int | None = None, cursor: str | None = None) -> models.SearchPage:
        """Search a seller's products, for buyers."""
        answer: models.SearchPage = self._call("GET", f"/v1/catalogue/{_quoted(seller_id)}/search", query={"q": q, "lang": lang, "category": category, "brand": brand, "currency": currency, "price_min": price_min, "price_max": price_max, "rating_min": rating_min, "in_stock": in_stock, "sort": sort, "limit": limit, "cursor": cursor})
        return answer

    def each_search_catalogue(self, seller_id: str, *, q: str | None = None, lang: str | None = None, category: str | None = None, brand: str | None = None, currency: str | None = None, price_min: str | None = None, price_max: str | None = None, rating_min: str | None = None, in_stock: bool | None = None, sort: Literal["relevance", "price", "-price", "newest"] | None = None) -> Iterator[models.SearchHit]:
        """Search a seller's products, for buyers: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = self.search_catalogue(seller_id, q=q, lang=lang, category=category, brand=brand, currency=currency, price_min=price_min, price_max=price_max, rating_min=rating_min, in_stock=in_stock, sort=sort, limit=100, cursor=cursor)
            for each in page["hits"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    def get_synonyms(self) -> models.SynonymsView:
        """The seller's synonyms."""
        answer: models.SynonymsView = self._call("GET", "/v1/synonyms")
        return answer

    def put_synonyms(self, body: models.SynonymsBody) -> models.SynonymsView:
        """Set the seller's synonyms, all of them."""
        answer: models.SynonymsView = self._call("PUT", "/v1/synonyms", body=body)
        return answer

    def get_review(self, order_id: str, line: int) -> models.ReviewView:
        """A line's review."""
        answer: models.ReviewView = self._call("GET", f"/v1/orders/{_quoted(order_id)}/lines/{_quoted(line)}/review")
        return answer

    def put_review(self, order_id: str, line: int, body: models.ReviewBody) -> models.ReviewView:
        """Review a line of an order that was delivered, or change its review."""
        answer: models.ReviewView = self._call("PUT", f"/v1/orders/{_quoted(order_id)}/lines/{_quoted(line)}/review", body=body)
        return answer

    def withdraw_review(self, order_id: str, line: int) -> models.ReviewView:
        """Take a review back: its words are deleted."""
        answer: models.ReviewView = self._call("DELETE", f"/v1/orders/{_quoted(order_id)}/lines/{_quoted(line)}/review")
        return answer

    def moderate_review(self, order_id: str, line: int, body: models.ModerationBody) -> models.ReviewView:
        """Approve or reject a review."""
        answer: models.ReviewView = self._call("POST", f"/v1/orders/{_quoted(order_id)}/lines/{_quoted(line)}/review/moderation", body=body, is_repeatable=False)
        return answer

    def get_reviews(self, *, state: Literal["pending", "published", "rejected", "withdrawn"] | None = None, sku: str | None = None, limit: int | None = None, cursor: str | None = None) -> models.ReviewList:
        """Reviews, newest first."""
        answer: models.ReviewList = self._call("GET", "/v1/reviews", query={"state": state, "sku": sku, "limit": limit, "cursor": cursor})
        return answer

    def each_review(self, *, state: Literal["pending", "published", "rejected", "withdrawn"] | None = None, sku: str | None = None) -> Iterator[models.ReviewView]:
        """Reviews, newest first: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = self.get_reviews(state=state, sku=sku, limit=100, cursor=cursor)
            for each in page["reviews"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    def get_rating(self, sku: str) -> models.RatingView:
        """How an article's published reviews rate it."""
        answer: models.RatingView = self._call("GET", f"/v1/ratings/{_quoted(sku)}")
        return answer

    def get_analytics_series(self, *, step: Literal["minute", "hour", "day"] | None = None, zone: str | None = None, since: str | None = None, until: str | None = None) -> models.SalesSeries:
        """What was sold, by minute, hour or day."""
        answer: models.SalesSeries = self._call("GET", "/v1/analytics/series", query={"step": step, "zone": zone, "since": since, "until": until})
        return answer

    def get_analytics_skus(self, *, by: Literal["sold", "cover"] | None = None, limit: int | None = None, step: Literal["minute", "hour", "day"] | None = None, zone: str | None = None, since: str | None = None, until: str | None = None) -> models.SkuSalesList:
        """The SKUs that sell most, or whose stock ends first."""
        answer: models.SkuSalesList = self._call("GET", "/v1/analytics/skus", query={"by": by, "limit": limit, "step": step, "zone": zone, "since": since, "until": until})
        return answer

    def create_analytics_link(self, body: models.LinkRequest | None = None) -> models.LinkView:
        """A link to the page of the seller's analytics, for browsers."""
        answer: models.LinkView = self._call("POST", "/v1/analytics/link", body=body or {}, is_repeatable=False)
        return answer

    def get_webhooks(self) -> models.EndpointList:
        """The webhook endpoints, oldest first, and all types of events."""
        answer: models.EndpointList = self._call("GET", "/v1/webhooks")
        return answer

    def create_webhook(self, body: models.NewEndpoint) -> models.CreatedEndpoint:
        """Add a webhook endpoint."""
        answer: models.CreatedEndpoint = self._call("POST", "/v1/webhooks", body=body, is_repeatable=False)
        return answer

    def get_webhook(self, endpoint_id: str) -> models.EndpointView:
        """A webhook endpoint."""
        answer: models.EndpointView = self._call("GET", f"/v1/webhooks/{_quoted(endpoint_id)}")
        return answer

    def change_webhook(self, endpoint_id: str, body: models.EndpointChange) -> models.EndpointView:
        """Change, pause or resume a webhook endpoint."""
        answer: models.EndpointView = self._call("PATCH", f"/v1/webhooks/{_quoted(endpoint_id)}", body=body)
        return answer

    def delete_webhook(self, endpoint_id: str) -> None:
        """Delete a webhook endpoint, and what is still to be sent to it."""
        answer: None = self._call("DELETE", f"/v1/webhooks/{_quoted(endpoint_id)}")
        return answer

    def get_webhook_secrets(self, endpoint_id: str) -> models.EndpointSecrets:
        """What a webhook endpoint's deliveries are verified with."""
        answer: models.EndpointSecrets = self._call("GET", f"/v1/webhooks/{_quoted(endpoint_id)}/secret")
        return answer

    def rotate_webhook_secret(self, endpoint_id: str) -> models.EndpointSecrets:
        """Rotate a webhook endpoint's secrets: the ones before sign along for 24 hours."""
        answer: models.EndpointSecrets = self._call("POST", f"/v1/webhooks/{_quoted(endpoint_id)}/secret", is_repeatable=False)
        return answer

    def test_webhook(self, endpoint_id: str) -> models.TestSent:
        """Send a test event. If it takes longer, the answer says only that it was accepted."""
        answer: models.TestSent = self._call("POST", f"/v1/webhooks/{_quoted(endpoint_id)}/test", is_repeatable=False)
        return answer

    def get_webhook_deliveries(self, endpoint_id: str, *, state: Literal["open", "delivered", "dead", "bounced"] | None = None, order_id: str | None = None, limit: int | None = None, cursor: str | None = None) -> models.DeliveryList:
        """What was sent to a webhook endpoint, newest first."""
        answer: models.DeliveryList = self._call("GET", f"/v1/webhooks/{_quoted(endpoint_id)}/deliveries", query={"state": state, "order_id": order_id, "limit": limit, "cursor": cursor})
        return answer

    def each_webhook_delivery(self, endpoint_id: str, *, state: Literal["open", "delivered", "dead", "bounced"] | None = None, order_id: str | None = None) -> Iterator[models.DeliveryView]:
        """What was sent to a webhook endpoint, newest first: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = self.get_webhook_deliveries(endpoint_id, state=state, order_id=order_id, limit=100, cursor=cursor)
            for each in page["deliveries"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    def get_webhook_delivery(self, endpoint_id: str, delivery_id: str) -> models.DeliveryDetailsView:
        """A delivery, with what was sent and every answer."""
        answer: models.DeliveryDetailsView = self._call("GET", f"/v1/webhooks/{_quoted(endpoint_id)}/deliveries/{_quoted(delivery_id)}")
        return answer

    def replay_webhook(self, endpoint_id: str, body: models.ReplayRequest) -> models.Replayed:
        """Send finished deliveries again, under their own ids."""
        answer: models.Replayed = self._call("POST", f"/v1/webhooks/{_quoted(endpoint_id)}/replay", body=body, is_repeatable=False)
        return answer

    def get_email(self) -> models.EmailSettingsView:
        """The settings of e-mail to buyers."""
        answer: models.EmailSettingsView = self._call("GET", "/v1/email")
        return answer

    def set_email(self, body: models.EmailRequest) -> models.EmailSettingsView:
        """Turn e-mail to buyers on, or change all of its settings."""
        answer: models.EmailSettingsView = self._call("PUT", "/v1/email", body=body)
        return answer

    def delete_email(self) -> None:
        """Turn e-mail to buyers off, with what is still to be sent."""
        answer: None = self._call("DELETE", "/v1/email")
        return answer

    def test_email(self, body: models.EmailTestRequest) -> models.TestSent:
        """Send a test mail. If it takes longer, the answer says only that it was accepted."""
        answer: models.TestSent = self._call("POST", "/v1/email/test", body=body, is_repeatable=False)
        return answer

    def get_email_deliveries(self, *, state: Literal["open", "delivered", "dead", "bounced"] | None = None, order_id: str | None = None, limit: int | None = None, cursor: str | None = None) -> models.DeliveryList:
        """The mails, newest first."""
        answer: models.DeliveryList = self._call("GET", "/v1/email/deliveries", query={"state": state, "order_id": order_id, "limit": limit, "cursor": cursor})
        return answer

    def each_email_delivery(self, *, state: Literal["open", "delivered", "dead", "bounced"] | None = None, order_id: str | None = None) -> Iterator[models.DeliveryView]:
        """The mails, newest first: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = self.get_email_deliveries(state=state, order_id=order_id, limit=100, cursor=cursor)
            for each in page["deliveries"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    def get_email_delivery(self, delivery_id: str) -> models.DeliveryDetailsView:
        """A mail, with every answer of the mail server."""
        answer: models.DeliveryDetailsView = self._call("GET", f"/v1/email/deliveries/{_quoted(delivery_id)}")
        return answer

    def replay_email(self, body: models.ReplayRequest) -> models.Replayed:
        """Send finished mails again, with their own Message-IDs."""
        answer: models.Replayed = self._call("POST", "/v1/email/replay", body=body, is_repeatable=False)
        return answer

    def report_bounce(self, body: models.BounceRequest) -> None:
        """Note that a mail came back."""
        answer: None = self._call("POST", "/v1/email/bounces", body=body, is_repeatable=False)
        return answer


class AsyncOperations(ABC):
    """Each operation, to be awaited."""

    @abstractmethod
    async def _call(self, method: str, path: str, **how: Any) -> Any: ...

    async def create_invoice(self, body: models.InvoiceRequest, *, wait_seconds: int | None = None) -> models.InvoiceView | models.AcceptedInvoice:
        """Ask for an invoice. If it takes longer, the answer says only that it was accepted."""
        answer: models.InvoiceView | models.AcceptedInvoice = await self._call("POST", "/v1/invoices", body=body, wait_seconds=wait_seconds, key="order_id")
        return answer

    async def credit_invoice(self, order_id: str, body: models.CreditCommand | None = None, *, wait_seconds: int | None = None) -> models.CreditNoteView | models.AcceptedCredit:
        """Credit an invoice, or a part of it. If it takes longer, the answer says only that it was accepted."""
        answer: models.CreditNoteView | models.AcceptedCredit = await self._call("POST", f"/v1/invoices/{_quoted(order_id)}/credit-notes", body=body or {}, wait_seconds=wait_seconds, key="credit_note_id")
        return answer

    async def get_credit_notes(self, order_id: str) -> models.CreditNoteList:
        """An order's credit notes, oldest first."""
        answer: models.CreditNoteList = await self._call("GET", f"/v1/invoices/{_quoted(order_id)}/credit-notes")
        return answer

    async def create_credit_notes(self, body: models.CreditNoteRequest, *, wait_seconds: int | None = None) -> models.CreditNoteView | models.AcceptedCredit:
        """Ask for a credit note of an invoice that was issued elsewhere. If it takes longer, the answer says only that it was accepted."""
        answer: models.CreditNoteView | models.AcceptedCredit = await self._call("POST", "/v1/credit-notes", body=body, wait_seconds=wait_seconds, key="credit_note_id")
        return answer

    async def get_invoice(self, order_id: str) -> models.InvoiceView | models.AcceptedInvoice | models.RejectedInvoice:
        """An order's invoice."""
        answer: models.InvoiceView | models.AcceptedInvoice | models.RejectedInvoice = await self._call("GET", f"/v1/invoices/{_quoted(order_id)}")
        return answer

    async def get_invoice_document(self, order_id: str) -> bytes:
        """An invoice's document."""
        answer: bytes = await self._call("GET", f"/v1/invoices/{_quoted(order_id)}/document", is_json=False)
        return answer

    async def get_credit_note_document(self, order_id: str, refund_id: str) -> bytes:
        """A credit note's document."""
        answer: bytes = await self._call("GET", f"/v1/invoices/{_quoted(order_id)}/credit-notes/{_quoted(refund_id)}/document", is_json=False)
        return answer

    async def get_series(self, *, limit: int | None = None, cursor: str | None = None) -> models.SeriesList:
        """The seller's series, by id."""
        answer: models.SeriesList = await self._call("GET", "/v1/series", query={"limit": limit, "cursor": cursor})
        return answer

    async def each_series(self) -> AsyncIterator[models.SeriesView]:
        """The seller's series, by id: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = await self.get_series(limit=100, cursor=cursor)
            for each in page["series"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    async def get_number(self, series_id: str, number: int) -> models.NumberView:
        """What became of a number."""
        answer: models.NumberView = await self._call("GET", f"/v1/series/{_quoted(series_id)}/numbers/{_quoted(number)}")
        return answer

    async def create_document_link(self, order_id: str, body: models.LinkRequest | None = None) -> models.LinkView:
        """A link to an invoice's document, for people without a key."""
        answer: models.LinkView = await self._call("POST", f"/v1/invoices/{_quoted(order_id)}/document-link", body=body or {}, is_repeatable=False)
        return answer

    async def create_credit_note_link(self, order_id: str, refund_id: str, body: models.LinkRequest | None = None) -> models.LinkView:
        """A link to a credit note's document, for people without a key."""
        answer: models.LinkView = await self._call("POST", f"/v1/invoices/{_quoted(order_id)}/credit-notes/{_quoted(refund_id)}/document-link", body=body or {}, is_repeatable=False)
        return answer

    async def check_out(self, body: models.CheckoutRequest | models.CartCheckout, *, wait_seconds: int | None = None) -> models.OrderView | models.AcceptedOrder:
        """Check out. If it takes longer, the answer says only that it was accepted."""
        answer: models.OrderView | models.AcceptedOrder = await self._call("POST", "/v1/checkouts", body=body, wait_seconds=wait_seconds, key="order_id")
        return answer

    async def get_cart(self, cart_id: str) -> models.CartView:
        """A cart."""
        answer: models.CartView = await self._call("GET", f"/v1/carts/{_quoted(cart_id)}")
        return answer

    async def delete_cart(self, cart_id: str) -> None:
        """Delete a cart."""
        answer: None = await self._call("DELETE", f"/v1/carts/{_quoted(cart_id)}")
        return answer

    async def put_cart_line(self, cart_id: str, sku: str, body: models.CartLineChange) -> models.CartView:
        """Put pieces of a product into a cart, or change how many."""
        answer: models.CartView = await self._call("PUT", f"/v1/carts/{_quoted(cart_id)}/lines/{_quoted(sku)}", body=body)
        return answer

    async def delete_cart_line(self, cart_id: str, sku: str) -> models.CartView:
        """Take a SKU out of a cart."""
        answer: models.CartView = await self._call("DELETE", f"/v1/carts/{_quoted(cart_id)}/lines/{_quoted(sku)}")
        return answer

    async def merge_cart(self, cart_id: str, body: models.CartMerge) -> models.MergedCart:
        """Add another cart's lines, as a guest's at login, and delete that one."""
        answer: models.MergedCart = await self._call("POST", f"/v1/carts/{_quoted(cart_id)}/merge", body=body, is_repeatable=False)
        return answer

    async def get_orders(self, *, customer: str, limit: int | None = None, cursor: str | None = None) -> models.OrderList:
        """A customer's orders, newest first."""
        answer: models.OrderList = await self._call("GET", "/v1/orders", query={"customer": customer, "limit": limit, "cursor": cursor})
        return answer

    async def each_order(self, *, customer: str) -> AsyncIterator[models.OrderSummary]:
        """A customer's orders, newest first: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = await self.get_orders(customer=customer, limit=100, cursor=cursor)
            for each in page["orders"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    async def get_order(self, order_id: str) -> models.OrderView | models.AcceptedOrder | models.WaitingOrder | models.RejectedOrder:
        """An order."""
        answer: models.OrderView | models.AcceptedOrder | models.WaitingOrder | models.RejectedOrder = await self._call("GET", f"/v1/orders/{_quoted(order_id)}")
        return answer

    async def create_tracking_link(self, order_id: str, body: models.LinkRequest | None = None) -> models.LinkView:
        """A link to an order's tracking page, for people without a key."""
        answer: models.LinkView = await self._call("POST", f"/v1/orders/{_quoted(order_id)}/tracking-link", body=body or {}, is_repeatable=False)
        return answer

    async def ship(self, order_id: str, body: models.ShipCommand | None = None, *, wait_seconds: int | None = None) -> models.OrderView | models.AcceptedCommand:
        """Ship an order. If it takes longer, the answer says only that it was accepted."""
        answer: models.OrderView | models.AcceptedCommand = await self._call("POST", f"/v1/orders/{_quoted(order_id)}/shipments", body=body or {}, wait_seconds=wait_seconds)
        return answer

    async def deliver(self, order_id: str, body: models.PlainCommand | None = None, *, wait_seconds: int | None = None) -> models.OrderView | models.AcceptedCommand:
        """An order was delivered. If it takes longer, the answer says only that it was accepted."""
        answer: models.OrderView | models.AcceptedCommand = await self._call("POST", f"/v1/orders/{_quoted(order_id)}/deliveries", body=body or {}, wait_seconds=wait_seconds)
        return answer

    async def cancel(self, order_id: str, body: models.PlainCommand | None = None, *, wait_seconds: int | None = None) -> models.OrderView | models.AcceptedCommand:
        """Cancel an order. If it takes longer, the answer says only that it was accepted."""
        answer: models.OrderView | models.AcceptedCommand = await self._call("POST", f"/v1/orders/{_quoted(order_id)}/cancellations", body=body or {}, wait_seconds=wait_seconds)
        return answer

    async def refund(self, order_id: str, body: models.RefundCommand | None = None, *, wait_seconds: int | None = None) -> models.OrderView | models.AcceptedCommand:
        """Refund an order, or lines of it. If it takes longer, the answer says only that it was accepted."""
        answer: models.OrderView | models.AcceptedCommand = await self._call("POST", f"/v1/orders/{_quoted(order_id)}/refunds", body=body or {}, wait_seconds=wait_seconds, key="refund_id")
        return answer

    async def get_stock_levels(self, *, limit: int | None = None, cursor: str | None = None) -> models.StockList:
        """All stock, by SKU."""
        answer: models.StockList = await self._call("GET", "/v1/stock", query={"limit": limit, "cursor": cursor})
        return answer

    async def each_stock_level(self) -> AsyncIterator[models.StockLevel]:
        """All stock, by SKU: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = await self.get_stock_levels(limit=100, cursor=cursor)
            for each in page["stock"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    async def get_stock(self, sku: str) -> models.StockLevel:
        """A SKU's stock."""
        answer: models.StockLevel = await self._call("GET", f"/v1/stock/{_quoted(sku)}")
        return answer

    async def put_stock(self, sku: str, body: models.StockChange) -> models.StockLevel:
        """Set or adjust a SKU's stock."""
        answer: models.StockLevel = await self._call("PUT", f"/v1/stock/{_quoted(sku)}", body=body)
        return answer

    async def get_products(self, *, limit: int | None = None, cursor: str | None = None) -> models.ProductList:
        """The seller's products, by id."""
        answer: models.ProductList = await self._call("GET", "/v1/products", query={"limit": limit, "cursor": cursor})
        return answer

    async def each_product(self) -> AsyncIterator[models.ProductView]:
        """The seller's products, by id: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = await self.get_products(limit=100, cursor=cursor)
            for each in page["products"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    async def get_product(self, product_id: str) -> models.ProductView:
        """A product, as the seller has written it."""
        answer: models.ProductView = await self._call("GET", f"/v1/products/{_quoted(product_id)}")
        return answer

    async def put_product(self, product_id: str, body: models.ProductBody) -> models.ProductView:
        """Put a product into the catalogue, or replace it."""
        answer: models.ProductView = await self._call("PUT", f"/v1/products/{_quoted(product_id)}", body=body)
        return answer

    async def delete_product(self, product_id: str) -> None:
        """Take a product out of the catalogue."""
        answer: None = await self._call("DELETE", f"/v1/products/{_quoted(product_id)}")
        return answer

    async def get_catalogue(self, seller_id: str, *, category: str | None = None, limit: int | None = None, cursor: str | None = None) -> models.CatalogueList:
        """A seller's products, by id, for buyers."""
        answer: models.CatalogueList = await self._call("GET", f"/v1/catalogue/{_quoted(seller_id)}/products", query={"category": category, "limit": limit, "cursor": cursor})
        return answer

    async def each_catalogue(self, seller_id: str, *, category: str | None = None) -> AsyncIterator[models.CatalogueProduct]:
        """A seller's products, by id, for buyers: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = await self.get_catalogue(seller_id, category=category, limit=100, cursor=cursor)
            for each in page["products"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    async def get_catalogue_product(self, seller_id: str, product_id: str) -> models.CatalogueProduct:
        """A product, for buyers."""
        answer: models.CatalogueProduct = await self._call("GET", f"/v1/catalogue/{_quoted(seller_id)}/products/{_quoted(product_id)}")
        return answer

    async def search_catalogue(self, seller_id: str, *, q: str | None = None, lang: str | None = None, category: str | None = None, brand: str | None = None, currency: str | None = None, price_min: str | None = None, price_max: str | None = None, rating_min: str | None = None, in_stock: bool | None = None, sort: Literal["relevance", "price", "-price", "newest"] | None = None, limit: int | None = None, cursor: str | None = None) -> models.SearchPage:
        """Search a seller's products, for buyers."""
        answer: models.SearchPage = await self._call("GET", f"/v1/catalogue/{_quoted(seller_id)}/search", query={"q": q, "lang": lang, "category": category, "brand": brand, "currency": currency, "price_min": price_min, "price_max": price_max, "rating_min": rating_min, "in_stock": in_stock, "sort": sort, "limit": limit, "cursor": cursor})
        return answer

    async def each_search_catalogue(self, seller_id: str, *, q: str | None = None, lang: str | None = None, category: str | None = None, brand: str | None = None, currency: str | None = None, price_min: str | None = None, price_max: str | None = None, rating_min: str | None = None, in_stock: bool | None = None, sort: Literal["relevance", "price", "-price", "newest"] | None = None) -> AsyncIterator[models.SearchHit]:
        """Search a seller's products, for buyers: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = await self.search_catalogue(seller_id, q=q, lang=lang, category=category, brand=brand, currency=currency, price_min=price_min, price_max=price_max, rating_min=rating_min, in_stock=in_stock, sort=sort, limit=100, cursor=cursor)
            for each in page["hits"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    async def get_synonyms(self) -> models.SynonymsView:
        """The seller's synonyms."""
        answer: models.SynonymsView = await self._call("GET", "/v1/synonyms")
        return answer

    async def put_synonyms(self, body: models.SynonymsBody) -> models.SynonymsView:
        """Set the seller's synonyms, all of them."""
        answer: models.SynonymsView = await self._call("PUT", "/v1/synonyms", body=body)
        return answer

    async def get_review(self, order_id: str, line: int) -> models.ReviewView:
        """A line's review."""
        answer: models.ReviewView = await self._call("GET", f"/v1/orders/{_quoted(order_id)}/lines/{_quoted(line)}/review")
        return answer

    async def put_review(self, order_id: str, line: int, body: models.ReviewBody) -> models.ReviewView:
        """Review a line of an order that was delivered, or change its review."""
        answer: models.ReviewView = await self._call("PUT", f"/v1/orders/{_quoted(order_id)}/lines/{_quoted(line)}/review", body=body)
        return answer

    async def withdraw_review(self, order_id: str, line: int) -> models.ReviewView:
        """Take a review back: its words are deleted."""
        answer: models.ReviewView = await self._call("DELETE", f"/v1/orders/{_quoted(order_id)}/lines/{_quoted(line)}/review")
        return answer

    async def moderate_review(self, order_id: str, line: int, body: models.ModerationBody) -> models.ReviewView:
        """Approve or reject a review."""
        answer: models.ReviewView = await self._call("POST", f"/v1/orders/{_quoted(order_id)}/lines/{_quoted(line)}/review/moderation", body=body, is_repeatable=False)
        return answer

    async def get_reviews(self, *, state: Literal["pending", "published", "rejected", "withdrawn"] | None = None, sku: str | None = None, limit: int | None = None, cursor: str | None = None) -> models.ReviewList:
        """Reviews, newest first."""
        answer: models.ReviewList = await self._call("GET", "/v1/reviews", query={"state": state, "sku": sku, "limit": limit, "cursor": cursor})
        return answer

    async def each_review(self, *, state: Literal["pending", "published", "rejected", "withdrawn"] | None = None, sku: str | None = None) -> AsyncIterator[models.ReviewView]:
        """Reviews, newest first: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = await self.get_reviews(state=state, sku=sku, limit=100, cursor=cursor)
            for each in page["reviews"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    async def get_rating(self, sku: str) -> models.RatingView:
        """How an article's published reviews rate it."""
        answer: models.RatingView = await self._call("GET", f"/v1/ratings/{_quoted(sku)}")
        return answer

    async def get_analytics_series(self, *, step: Literal["minute", "hour", "day"] | None = None, zone: str | None = None, since: str | None = None, until: str | None = None) -> models.SalesSeries:
        """What was sold, by minute, hour or day."""
        answer: models.SalesSeries = await self._call("GET", "/v1/analytics/series", query={"step": step, "zone": zone, "since": since, "until": until})
        return answer

    async def get_analytics_skus(self, *, by: Literal["sold", "cover"] | None = None, limit: int | None = None, step: Literal["minute", "hour", "day"] | None = None, zone: str | None = None, since: str | None = None, until: str | None = None) -> models.SkuSalesList:
        """The SKUs that sell most, or whose stock ends first."""
        answer: models.SkuSalesList = await self._call("GET", "/v1/analytics/skus", query={"by": by, "limit": limit, "step": step, "zone": zone, "since": since, "until": until})
        return answer

    async def create_analytics_link(self, body: models.LinkRequest | None = None) -> models.LinkView:
        """A link to the page of the seller's analytics, for browsers."""
        answer: models.LinkView = await self._call("POST", "/v1/analytics/link", body=body or {}, is_repeatable=False)
        return answer

    async def get_webhooks(self) -> models.EndpointList:
        """The webhook endpoints, oldest first, and all types of events."""
        answer: models.EndpointList = await self._call("GET", "/v1/webhooks")
        return answer

    async def create_webhook(self, body: models.NewEndpoint) -> models.CreatedEndpoint:
        """Add a webhook endpoint."""
        answer: models.CreatedEndpoint = await self._call("POST", "/v1/webhooks", body=body, is_repeatable=False)
        return answer

    async def get_webhook(self, endpoint_id: str) -> models.EndpointView:
        """A webhook endpoint."""
        answer: models.EndpointView = await self._call("GET", f"/v1/webhooks/{_quoted(endpoint_id)}")
        return answer

    async def change_webhook(self, endpoint_id: str, body: models.EndpointChange) -> models.EndpointView:
        """Change, pause or resume a webhook endpoint."""
        answer: models.EndpointView = await self._call("PATCH", f"/v1/webhooks/{_quoted(endpoint_id)}", body=body)
        return answer

    async def delete_webhook(self, endpoint_id: str) -> None:
        """Delete a webhook endpoint, and what is still to be sent to it."""
        answer: None = await self._call("DELETE", f"/v1/webhooks/{_quoted(endpoint_id)}")
        return answer

    async def get_webhook_secrets(self, endpoint_id: str) -> models.EndpointSecrets:
        """What a webhook endpoint's deliveries are verified with."""
        answer: models.EndpointSecrets = await self._call("GET", f"/v1/webhooks/{_quoted(endpoint_id)}/secret")
        return answer

    async def rotate_webhook_secret(self, endpoint_id: str) -> models.EndpointSecrets:
        """Rotate a webhook endpoint's secrets: the ones before sign along for 24 hours."""
        answer: models.EndpointSecrets = await self._call("POST", f"/v1/webhooks/{_quoted(endpoint_id)}/secret", is_repeatable=False)
        return answer

    async def test_webhook(self, endpoint_id: str) -> models.TestSent:
        """Send a test event. If it takes longer, the answer says only that it was accepted."""
        answer: models.TestSent = await self._call("POST", f"/v1/webhooks/{_quoted(endpoint_id)}/test", is_repeatable=False)
        return answer

    async def get_webhook_deliveries(self, endpoint_id: str, *, state: Literal["open", "delivered", "dead", "bounced"] | None = None, order_id: str | None = None, limit: int | None = None, cursor: str | None = None) -> models.DeliveryList:
        """What was sent to a webhook endpoint, newest first."""
        answer: models.DeliveryList = await self._call("GET", f"/v1/webhooks/{_quoted(endpoint_id)}/deliveries", query={"state": state, "order_id": order_id, "limit": limit, "cursor": cursor})
        return answer

    async def each_webhook_delivery(self, endpoint_id: str, *, state: Literal["open", "delivered", "dead", "bounced"] | None = None, order_id: str | None = None) -> AsyncIterator[models.DeliveryView]:
        """What was sent to a webhook endpoint, newest first: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = await self.get_webhook_deliveries(endpoint_id, state=state, order_id=order_id, limit=100, cursor=cursor)
            for each in page["deliveries"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    async def get_webhook_delivery(self, endpoint_id: str, delivery_id: str) -> models.DeliveryDetailsView:
        """A delivery, with what was sent and every answer."""
        answer: models.DeliveryDetailsView = await self._call("GET", f"/v1/webhooks/{_quoted(endpoint_id)}/deliveries/{_quoted(delivery_id)}")
        return answer

    async def replay_webhook(self, endpoint_id: str, body: models.ReplayRequest) -> models.Replayed:
        """Send finished deliveries again, under their own ids."""
        answer: models.Replayed = await self._call("POST", f"/v1/webhooks/{_quoted(endpoint_id)}/replay", body=body, is_repeatable=False)
        return answer

    async def get_email(self) -> models.EmailSettingsView:
        """The settings of e-mail to buyers."""
        answer: models.EmailSettingsView = await self._call("GET", "/v1/email")
        return answer

    async def set_email(self, body: models.EmailRequest) -> models.EmailSettingsView:
        """Turn e-mail to buyers on, or change all of its settings."""
        answer: models.EmailSettingsView = await self._call("PUT", "/v1/email", body=body)
        return answer

    async def delete_email(self) -> None:
        """Turn e-mail to buyers off, with what is still to be sent."""
        answer: None = await self._call("DELETE", "/v1/email")
        return answer

    async def test_email(self, body: models.EmailTestRequest) -> models.TestSent:
        """Send a test mail. If it takes longer, the answer says only that it was accepted."""
        answer: models.TestSent = await self._call("POST", "/v1/email/test", body=body, is_repeatable=False)
        return answer

    async def get_email_deliveries(self, *, state: Literal["open", "delivered", "dead", "bounced"] | None = None, order_id: str | None = None, limit: int | None = None, cursor: str | None = None) -> models.DeliveryList:
        """The mails, newest first."""
        answer: models.DeliveryList = await self._call("GET", "/v1/email/deliveries", query={"state": state, "order_id": order_id, "limit": limit, "cursor": cursor})
        return answer

    async def each_email_delivery(self, *, state: Literal["open", "delivered", "dead", "bounced"] | None = None, order_id: str | None = None) -> AsyncIterator[models.DeliveryView]:
        """The mails, newest first: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = await self.get_email_deliveries(state=state, order_id=order_id, limit=100, cursor=cursor)
            for each in page["deliveries"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return

    async def get_email_delivery(self, delivery_id: str) -> models.DeliveryDetailsView:
        """A mail, with every answer of the mail server."""
        answer: models.DeliveryDetailsView = await self._call("GET", f"/v1/email/deliveries/{_quoted(delivery_id)}")
        return answer

    async def replay_email(self, body: models.ReplayRequest) -> models.Replayed:
        """Send finished mails again, with their own Message-IDs."""
        answer: models.Replayed = await self._call("POST", "/v1/email/replay", body=body, is_repeatable=False)
        return answer

    async def report_bounce(self, body: models.BounceRequest) -> None:
        """Note that a mail came back."""
        answer: None = await self._call("POST", "/v1/email/bounces", body=body, is_repeatable=False)
        return answer
