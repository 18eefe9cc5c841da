namespace Tutti.Virtio.Network;

/// <summary>Numbers of the network device. Source: Virtual I/O Device 1.2, 5.1.</summary>
internal static class VirtioNetLayout
{
    // Feature bits, 5.1.3.
    internal const ulong FeatureCsum = 1UL << 0;
    internal const ulong FeatureGuestCsum = 1UL << 1;
    internal const ulong FeatureCtrlGuestOffloads = 1UL << 2;
    internal const ulong FeatureMtu = 1UL << 3;
    internal const ulong FeatureMac = 1UL << 5;
    internal const ulong FeatureGuestTso4 = 1UL << 7;
    internal const ulong FeatureGuestTso6 = 1UL << 8;
    internal const ulong FeatureGuestEcn = 1UL << 9;
    internal const ulong FeatureHostTso4 = 1UL << 11;
    internal const ulong FeatureHostTso6 = 1UL << 12;
    internal const ulong FeatureHostEcn = 1UL << 13;
    internal const ulong FeatureMrgRxbuf = 1UL << 15;
    internal const ulong FeatureStatus = 1UL << 16;
    internal const ulong FeatureCtrlVq = 1UL << 17;
    internal const ulong FeatureCtrlRx = 1UL << 18;
    internal const ulong FeatureCtrlRxExtra = 1UL << 20;
    internal const ulong FeatureGuestAnnounce = 1UL << 21;
    internal const ulong FeatureCtrlMacAddr = 1UL << 23;
    internal const ulong FeatureSpeedDuplex = 1UL << 63;

    /// <summary>Features that CTRL_GUEST_OFFLOADS_SET can switch; the command's bits are the features' own, 5.1.6.5.6.</summary>
    internal const ulong GuestOffloads = FeatureGuestCsum | FeatureGuestTso4 | FeatureGuestTso6 | FeatureGuestEcn;

    // Queues without MQ, 5.1.2.
    internal const int ReceiveQueue = 0;
    internal const int TransmitQueue = 1;
    internal const int ControlQueue = 2;

    // struct virtio_net_config, 5.1.4.
    internal const int Mac = 0;
    internal const int Status = 6;
    internal const int MaxVirtqueuePairs = 8;
    internal const int Mtu = 10;
    internal const int Speed = 12;
    internal const int Duplex = 16;
    internal const int ConfigSize = 20;

    internal const ushort StatusLinkUp = 1;
    internal const ushort StatusAnnounce = 2;
    internal const byte DuplexFull = 1;

    // struct virtio_net_hdr, 5.1.6.
    internal const int HeaderFlags = 0;
    internal const int HeaderGsoType = 1;
    internal const int HeaderHdrLen = 2;
    internal const int HeaderGsoSize = 4;
    internal const int HeaderCsumStart = 6;
    internal const int HeaderCsumOffset = 8;
    internal const int HeaderNumBuffers = 10;
    internal const int HeaderSize = 12;

    internal const byte FlagNeedsCsum = 1;
    internal const byte FlagDataValid = 2;

    internal const byte GsoNone = 0;
    internal const byte GsoTcp4 = 1;
    internal const byte GsoTcp6 = 4;
    internal const byte GsoEcn = 0x80;

    // struct virtio_net_ctrl, 5.1.6.5: class, command; then data; then ack.
    internal const int ControlHeaderSize = 2;
    internal const byte ControlOk = 0;
    internal const byte ControlErr = 1;

    internal const byte ClassRx = 0;
    internal const byte RxPromisc = 0;
    internal const byte RxAllMulti = 1;
    internal const byte RxAllUni = 2;
    internal const byte RxNoMulti = 3;
    internal const byte RxNoUni = 4;
    internal const byte RxNoBcast = 5;

    internal const byte ClassMac = 1;
    internal const byte MacTableSet = 0;
    internal const byte MacAddrSet = 1;

    internal const byte ClassAnnounce = 3;
    internal const byte AnnounceAck = 0;

    internal const byte ClassGuestOffloads = 5;
    internal const byte GuestOffloadsSet = 0;
}
