"""Which source column is which column of the order contract, by names and by what the columns hold."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from daskae.errors import SettingsError
from daskae.profile.finish import ColumnProfile
from daskae.schema import CONTRACT_TYPES, REQUIRED, sql_expression

_NAMES: Mapping[str, tuple[str, ...]] = {
    "order_id": (
        "orderid", "ordernumber", "orderno", "ordernr", "invoiceid", "invoiceno", "invoicenumber", "invoice",
        "transactionid", "transactionno", "receiptid", "receiptno", "basketid", "order",
    ),
    "customer_id": (
        "customerid", "customernumber", "customerno", "customernr", "custid", "clientid", "userid", "accountid",
        "memberid", "buyerid", "customer", "client", "user", "buyer", "customeremail", "email",
    ),
    "order_date": (
        "orderdate", "invoicedate", "purchasedate", "transactiondate", "orderedat", "orderdatetime", "ordertimestamp",
        "ordertime", "invoicetime", "purchasedat", "createdat", "created", "saledate", "salesdate", "date", "datetime",
        "timestamp", "time", "day",
    ),
    "amount": (
        "amount", "orderamount", "totalamount", "ordertotal", "invoiceamount", "linetotal", "lineamount", "totalprice",
        "netamount", "grossamount", "salesamount", "revenue", "sales", "total", "value", "ordervalue", "subtotal",
    ),
    "quantity": ("quantity", "qty", "units", "pieces", "itemcount", "quantityordered", "orderquantity"),
    "price": ("price", "unitprice", "itemprice", "priceeach", "priceperunit", "unitcost"),
    "status": ("status", "orderstatus", "state"),
    "currency": ("currency", "currencycode", "curr"),
}  # fmt: skip
_NUMBERS = ("integer", "decimal", "float")
_DATES = ("date", "datetime")
_LEAST_READABLE = 0.5
"""Share of a column's values that must be readable for it to be proposed for what its name says."""


@dataclass(frozen=True)
class Mapped:
    """What was found."""

    columns: dict[str, str]
    """Source column by contract column."""
    expressions: dict[str, str]
    """SQL expression by contract column."""
    candidates: dict[str, tuple[str, ...]]
    """For each required contract column that was not found: source columns that hold such values."""

    @property
    def is_complete(self) -> bool:
        """Whether every required column was found."""
        return not self.candidates


def map_columns(profiles: Sequence[ColumnProfile]) -> Mapped:
    """Map source columns onto the contract.

    Parameters
    ----------
    profiles : sequence of ColumnProfile
        Columns that every source has.
    """
    found: dict[str, str] = {}
    for target, names in _NAMES.items():
        ranked = [(names.index(_plain(item.name)), i) for i, item in enumerate(profiles) if _plain(item.name) in names]
        fitting = [profiles[i] for _, i in sorted(ranked) if _fits(profiles[i], target)]
        free = [item.name for item in fitting if item.name not in found.values()]
        if free:
            found[target] = free[0]
    dates = [item.name for item in profiles if item.type in _DATES and item.is_clean]
    if "order_date" not in found and len(dates) == 1:
        found["order_date"] = dates[0]
    expressions = {}
    if "amount" not in found and "quantity" in found and "price" in found:
        expressions["amount"] = product(found["quantity"], found["price"])
    missing = [name for name in REQUIRED if name not in found and name not in expressions]
    return Mapped(found, expressions, {name: _candidates(profiles, name, found) for name in missing})


def _plain(name: str) -> str:
    """Write a name so that ``Customer ID``, ``customer_id`` and ``CustomerID`` are the same."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _fits(item: ColumnProfile, target: str) -> bool:
    """Whether a column holds what the contract column takes."""
    dtype = CONTRACT_TYPES[target]
    if not item.values or re.fullmatch(r"\^.*\$|\*", item.name, re.DOTALL):
        return False
    if dtype == "datetime":
        return item.type in _DATES
    if dtype == "decimal":
        return item.type in _NUMBERS and item.readable >= _LEAST_READABLE * item.values
    return True


def _candidates(profiles: Sequence[ColumnProfile], target: str, found: Mapping[str, str]) -> tuple[str, ...]:
    """List columns of a fitting type that are not taken."""
    free = [item for item in profiles if item.name not in found.values() and _fits(item, target)]
    if target == "customer_id":  # many rows of a customer, and more than a few customers
        free = [item for item in free if item.type in ("text", "integer") and item.distinct > 1]
    return tuple(item.name for item in free)


def product(quantity: str, price: str) -> str:
    """Write the product of two source columns as SQL, with quotes where names need them."""
    plain = f"{quantity} * {price}"
    if re.fullmatch(r"\w+ \* \w+", plain):
        try:
            if set(sql_expression(plain, "").meta.root_names()) == {quantity, price}:
                return plain
        except SettingsError:
            pass
    return " * ".join('"' + name.replace('"', '""') + '"' for name in (quantity, price))
