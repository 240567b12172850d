"""Orders by name: each is one file of this folder."""

from headway.calls.admission.fair import Fair
from headway.calls.admission.fcfs import Fcfs
from headway.calls.admission.lanes import Lanes
from headway.calls.admission.model import EndpointAdmission
from headway.calls.admission.order import HeapOrder
from headway.calls.admission.room import Room
from headway.calls.admission.shortest import Shortest
from headway.calls.admission.standing import Standing

ORDERS: tuple[tuple[str, type[HeapOrder]], ...] = (("lanes", Lanes), ("fair", Fair), ("fcfs", Fcfs), ("shortest", Shortest))


def order_named(settings: EndpointAdmission, room: Room, standing: Standing) -> HeapOrder:
    """KeyError for an unknown name: ``problems.py`` refuses it when the configuration is read."""
    return dict(ORDERS)[settings.policy](settings, room, standing)
